//! Owns the stdio, logs and exit codes of one pod's containers, and outlives the daemon.
//!
//! ```text
//! daemon ══ requests ══▶ main thread: epoll over listener, connections, SIGCHLD, pidfds, report sockets, deadlines
//!                          │ starts helpers, reaps children, writes exit records, kills, answers
//!                          ▼ commands ▲ notes
//!                        log thread: epoll over the containers' pipes and terminals → log files, attached sessions
//! ```
//!
//! Invariants:
//! - the main thread never waits for anything but its epoll: logs are opened and written by the other one;
//! - while a helper has not reported, no unknown child is reaped: it may be the init that the report will name;
//! - a container is started when its helper has exited with 0, and its end is not looked at before;
//! - what a container's memory has to tell is read before its end is looked at;
//! - an init is reaped after its exit record is written, and reported after it is reaped;
//! - a connection that ends takes its execs with it and nothing else.

mod attach;
mod cgroup;
mod clients;
mod containers;
mod execs;
#[doc(hidden)]
pub mod fuzzing;
mod jobs;
mod log;
mod memory;
mod record;
mod requests;
mod setup;
mod supervisor;
mod timers;
mod wait;

use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;

/// Descriptor of the listening socket.
const LISTEN_FD: i32 = 3;

/// The whole program.
pub fn main() -> ExitCode {
    let Some(sandbox_id) = std::env::args().nth(1) else {
        eprintln!("cricket-monitor: it is started by cricket, with a sandbox id and its socket as descriptor 3");
        return ExitCode::FAILURE;
    };
    let started = setup::prepare(LISTEN_FD).and_then(|signals| {
        // SAFETY: whoever starts this program passes the listener under this number; nothing else here owns it.
        let listener = unsafe { OwnedFd::from_raw_fd(LISTEN_FD) };
        supervisor::Supervisor::new(sandbox_id, listener, signals)
    });
    match started.and_then(supervisor::Supervisor::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cricket-monitor: {error}");
            ExitCode::FAILURE
        }
    }
}
