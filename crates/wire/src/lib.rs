//! Messages between the daemon, its monitors and their helpers.
//!
//! ```text
//! daemon ──Request{id}──▶ monitor        one prost message a packet (SOCK_SEQPACKET), descriptors by SCM_RIGHTS
//!        ◀─Response{id}──                one final answer for each request; before it Exec may send ExecStarted, and
//!                                Attach sends Attached
//!        ◀─Response{0}───                events that nobody asked for
//! ```
//!
//! The protocol only grows: a field number is never used again, an unknown field is ignored, an unknown request is
//! answered by [`Failed`] with [`Code::Unknown`]. Daemons speak to monitors that are older than themselves.

#![forbid(unsafe_code)]

mod attach;
mod container;
mod exec;
pub mod exec_config;
pub mod helper;
pub mod launch_config;
pub mod packet;
mod request;
mod response;

pub use attach::{Attach, DetachReason, Detached};
pub use container::{Adopt, CgroupRef, ContainerState, ExitFacts, Log, Phase, Run, Stream};
pub use exec::{Exec, ExecEnded, ExecStarted};
pub use request::{Cancel, Empty, Hello, Hold, Named, Request, RequestKind};
pub use response::{
    Code, Containers, Exited, Failed, Handles, Held, HeldFd, HelloReply, Response, ResponseKind, Started,
};

/// The newest version of the protocol that this build speaks: 2 knows `Attach` and `Run::attachable`.
pub const VERSION: u32 = 2;
/// The first version with `Attach`.
pub const ATTACH_VERSION: u32 = 2;
