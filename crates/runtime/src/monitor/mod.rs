//! The daemon's side of a pod's monitor: start one, find it again, give it work, hear of exits.
//!
//! One connection per client; any number of requests are in flight on it, matched by id. Dropping the future of
//! [`MonitorClient::run`] or [`MonitorClient::exec`] cancels what it asked for. When the connection ends, every
//! request in flight fails with [`MonitorError::Lost`] and the last event is [`MonitorEvent::Gone`].

mod client;
mod connection;
mod error;
mod helpers;
mod record;
mod spawn;
mod types;

pub use client::MonitorClient;
pub use cricket_wire::Stream;
pub use cricket_wire::helper::Blame;
pub use error::{HelperFailure, MonitorError};
pub use helpers::Helpers;
pub use record::ExitRecord;
pub use types::{
    AdoptRequest, Cgroup, ContainerFacts, ContainerHandles, ContainerPhase, ExecExit, ExecRequest, ExecStart,
    ExitFacts, HeldFd, LogTarget, MonitorEvent, RunRequest, Started,
};

/// Name of a monitor's socket in its pod's directory.
pub const SOCKET_NAME: &str = "monitor.sock";
