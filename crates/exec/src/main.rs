//! Joins a running container and executes a command in it; also makes the init of a pod with a shared PID namespace.
//!
//! ```text
//! monitor ─starts─▶ cricket-exec ─clone3(CLONE_PARENT)─▶ child ─joins, drops, execve─▶ command
//!    ▲  ▲                │   ▲                             │
//!    │  └────Report──────┘   └── channel: terminal, or why it failed; closed by execve
//!    └─────────────exit status───────────────────────────────────────────────────────┘
//! ```
//!
//! The helper itself stays on the host: it opens whatever it needs of `/proc` there, and only the child enters the
//! container, whose files, `/proc` and `/dev` are hostile. Both have one thread and run Rust code after the clone.
//! How it is started and how it reports: `cricket_wire::helper`.

mod cgroup;
mod child;
mod clone;
mod command;
mod descriptor;
mod failure;
mod lookup;
mod pod_init;
mod reaper;
mod target;
mod terminal;

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use cricket_wire::exec_config::ExecConfig;
use cricket_wire::helper::{CONFIG_FD, REPORT_FD, Report};
use cricket_wire::packet;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::failure::{Doing, Failure};

/// Longest configuration in bytes: an environment may have what execve takes.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;

/// What was made.
struct Made {
    pid: i32,
    terminal: Option<OwnedFd>,
}

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == reaper::NAME) {
        return reaper::run();
    }
    // Processes of the container see the child before it executes; they must not be able to look into it.
    let made = set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("hide from ptrace").and_then(|()| make());
    let (report, terminal) = match made {
        Ok(Made { pid, terminal }) => (Report { pid, error: None, terminal: terminal.is_some() }, terminal),
        Err(failure) => (Report { pid: 0, error: Some(failure.into_wire()), terminal: false }, None),
    };
    let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
    let sent = descriptor::borrow(REPORT_FD).and_then(|socket| {
        packet::send(socket, &report, &fds).map_err(|error| Failure::host(format!("report: {error}")))
    });
    match (sent, report.error) {
        (Ok(()), None) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn make() -> Result<Made, Failure> {
    let mut text = Vec::new();
    let mut file = File::from(descriptor::take(CONFIG_FD)?);
    file.rewind().doing("read the configuration")?;
    file.take(MAX_CONFIG).read_to_end(&mut text).doing("read the configuration")?;
    match serde_json::from_slice(&text) {
        Ok(ExecConfig::Command(config)) => command::execute(&config),
        Ok(ExecConfig::PodInit(config)) => pod_init::make(&config),
        Err(error) => Err(Failure::host(format!("read the configuration: {error}"))),
    }
}
