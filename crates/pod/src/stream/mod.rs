//! What streaming sessions are made of: a command with pipes or a terminal, a running container's stdio, a connection
//! into a pod's network.
//!
//! ```text
//! exec          Input/Output ══ pipes or terminal ══ command                     dropping the ExecProcess kills it
//! attach        Input/Output ══ pipes ══ monitor ══ the container's stdio        dropping the Attachment detaches
//! port-forward  TcpStream, its socket made inside the pod's network namespace
//! ```
//!
//! Invariants: everything of a session is owned by what its caller holds, so a session that is dropped leaves no
//! descriptor or process, and no task but one that waits for the monitor's answer; no byte of a session passes through a buffer here, so that a slow client is felt by the
//! command and by nothing else.

mod attach;
mod exec;
mod forward;
mod io;
mod stdio;

pub use attach::{AttachSession, Attachment, Closed};
pub use exec::{ExecProcess, ExecSession, Exit};
pub use io::{Input, Output, Terminal};
pub use stdio::Stdio;
