//! Joins a running container and executes a command in it; also makes the init of a pod with a shared PID namespace.
//!
//! ```text
//! monitor ─starts─▶ cricket-exec ─clone3, vfork─▶ child ─joins, drops, execve─▶ command
//!    ▲  ▲                │   ▲                             │
//!    │  └────Report──────┘   └── channel: terminal, or why it failed; closed by execve
//!    └─────────────exit status───────────────────────────────────────────────────────┘
//! ```
//!
//! The helper itself stays on the host: it opens whatever it needs of `/proc` there, and only the child enters the
//! container, whose files, `/proc` and `/dev` are hostile. The child is the helper's parent's, and has the helper's memory until
//! it executes. Both have one thread and run Rust code after the clone.
//! How it is started and how it reports: `cricket_wire::helper`. Under other names it is `cricket-init`, the init of a pod,
//! and `cricket-hold`, which keeps a systemd scope until a container is in it.
//!
//! It starts with every probe of a node, so its start counts: libc calls [`start`] without the standard library's own
//! preparations (a signal stack, the bounds of the stack out of `/proc/self/maps`, an ignored `SIGPIPE`).

#![cfg_attr(not(test), no_main)]

mod cgroup;
mod child;
mod clone;
mod command;
mod descriptor;
mod failure;
mod heap;
mod hold;
mod lookup;
mod pod_init;
mod reaper;
mod target;
mod terminal;

use std::ffi::{CStr, c_char, c_int};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use cricket_wire::exec_config::ExecConfig;
use cricket_wire::helper::{CONFIG_FD, REPORT_FD, Report};
use cricket_wire::packet;
use rustix::fs::fstat;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::failure::{Doing, Failure};

/// Not for tests, which have threads.
#[cfg_attr(not(test), global_allocator)]
#[cfg_attr(test, expect(dead_code, reason = "tests have threads"))]
static HEAP: heap::Heap = heap::Heap::new();

/// Longest configuration in bytes: an environment may have what execve takes.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;

/// What was made.
struct Made {
    pid: i32,
    terminal: Option<OwnedFd>,
}

/// What libc calls. Returns the exit status.
#[cfg_attr(not(test), unsafe(export_name = "main"))]
#[cfg_attr(test, expect(dead_code, reason = "tests have a main function of their own"))]
extern "C" fn start(count: c_int, arguments: *const *const c_char) -> c_int {
    // SAFETY: `count` pointers to strings that end with a NUL, as libc gives them to a program.
    let name = (count > 0).then(|| unsafe { CStr::from_ptr(*arguments) });
    let done = match name {
        Some(name) if name == reaper::NAME_C && count > 1 => reaper::run_alone(),
        Some(name) if name == reaper::NAME_C => reaper::run(),
        Some(name) if name == hold::NAME_C => hold::run(),
        _ => run(),
    };
    if done { 0 } else { 1 }
}

/// Carries the order out; false: that failed, or could not be told.
fn run() -> bool {
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
    sent.is_ok() && report.error.is_none()
}

fn make() -> Result<Made, Failure> {
    let file = File::from(descriptor::take(CONFIG_FD)?);
    let size = fstat(&file).doing("read the configuration")?.st_size;
    let size = u64::try_from(size).ok().filter(|size| *size <= MAX_CONFIG);
    let mut text = vec![0; size.ok_or_else(|| Failure::host("the configuration is too large"))? as usize];
    file.read_exact_at(&mut text, 0).doing("read the configuration")?;
    match serde_json::from_slice(&text) {
        Ok(ExecConfig::Command(config)) => command::execute(&config),
        Ok(ExecConfig::PodInit(config)) => pod_init::make(&config),
        Err(error) => Err(Failure::host(format!("read the configuration: {error}"))),
    }
}
