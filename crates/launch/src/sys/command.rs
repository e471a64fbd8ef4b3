//! Commands that end with this process.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the kernel kill the command when this process ends (`PR_SET_PDEATHSIG` of prctl(2)): a helper that is killed must
/// not leave a runtime that makes a container nobody waits for. What the command forks is not concerned.
pub(crate) fn end_with_this_process(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        match getppid() {
            Some(now) if now == parent => Ok(()),
            // It has ended in between.
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: three system calls and no allocation; this process has one thread, so that nobody holds a lock.
    unsafe { command.pre_exec(prepare) }
}
