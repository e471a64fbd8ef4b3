//! The daemon's side of a pod's monitor: start one, find it again, give it work, hear of exits.
//!
//! One connection per client; any number of requests are in flight on it, matched by id. Dropping the future of
//! [`MonitorClient::run`] or [`MonitorClient::exec`] cancels what it asked for. When the connection ends, every
//! request in flight fails with [`MonitorError::Lost`] and the last event is [`MonitorEvent::Gone`]. Every request that a
//! monitor carries out itself has a deadline; those that run something of the container's have the caller's.

mod attach;
mod client;
mod connection;
mod error;
mod helpers;
mod record;
mod spawn;
mod stuck;
mod types;

pub use attach::Session;
pub use client::MonitorClient;
pub use cricket_wire::helper::Blame;
pub use cricket_wire::{DetachReason, Stream};
pub use error::{HelperFailure, MonitorError};
pub use helpers::Helpers;
pub use record::ExitRecord;
pub use stuck::kill_stuck;
pub use types::{
    AdoptRequest, AttachRequest, Cgroup, ContainerFacts, ContainerHandles, ContainerPhase, ExecExit, ExecRequest,
    ExecStart, ExitFacts, HeldFd, LogTarget, MonitorEvent, RunRequest, Started, Supervised,
};

/// Name of a monitor's socket in its pod's directory.
pub const SOCKET_NAME: &str = "monitor.sock";
