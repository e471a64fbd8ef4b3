//! The few system calls without a safe wrapper, a module each kind.

mod bpf;
mod clone;
mod command;
mod descriptors;
mod exec;
mod signals;

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

pub(crate) use bpf::attach_device_program;
pub(crate) use clone::{Clone, Side, exit, unshare};
pub(crate) use command::end_with_this_process;
pub(crate) use descriptors::{become_stdio, keep_only, protect_descriptors, stdio, take, terminal_peer};
pub(crate) use exec::{Scheduling, execve, set_scheduling};
pub(crate) use signals::Awaited;

/// Takes [`end_with_parent`] back.
pub(crate) fn outlive_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(None)?)
}

/// Has the kernel kill this process when its parent ends; an error when that is so already, told by the other end of
/// the report socket. What is forked from here is not concerned (PR_SET_PDEATHSIG in prctl(2)).
pub(crate) fn end_with_parent(report: &OwnedFd) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut socket = [PollFd::new(report, PollFlags::empty())];
    poll(&mut socket, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    match socket[0].revents().intersects(PollFlags::HUP) {
        true => Err(io::ErrorKind::BrokenPipe.into()),
        false => Ok(()),
    }
}
