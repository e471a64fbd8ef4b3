//! Exec, attach and port-forward: the server whose URLs a kubelet passes its own clients on to.
//!
//! ```text
//! RPC ─▶ Server::exec(order) ─▶ URL with a token           token.rs: 128 bits, used once, within a minute
//! client ─▶ TCP or TLS ─▶ HTTP/1.1, token claimed, protocol agreed, upgraded      server.rs, tls.rs, http.rs
//!            ├▶ SPDY/3.1 (spdy/) ────────────┐
//!            └▶ WebSocket (websocket/) ──────┤ SPDY inside of a WebSocket as well
//!                                            ├▶ remote/: streams of a command ─▶ Backend::exec, attach
//!                                            └▶ forward/: connections ─▶ Backend::port_forward
//! ```
//!
//! Invariants: nobody gets a session without a token that an RPC issued; whatever a client sends is bounded before it
//! is kept; a session ends with its client, its idle timeout or the daemon, and leaves no task and no descriptor.

#![forbid(unsafe_code)]

mod activity;
mod backend;
mod budget;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod link;
mod pipe;
mod remote;
mod server;
mod socket;
mod spdy;
mod tls;
mod token;
mod websocket;

pub use backend::{AttachOrder, Backend, Duplex, ExecOrder, Failure, ForwardOrder, SessionIo, Streams, TerminalSize};
pub use pipe::{CopyError, Input, Output};
pub use server::{Config, ServeError, Server};
pub use tls::{Tls, TlsError};
pub use token::IssueError;
