//! Makes the init of a pod whose containers share one PID namespace.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use cricket_process::{identity, namespaces};
use cricket_wire::exec_config::PodInitConfig;
use cricket_wire::helper::{MAX_REPORT, Report};
use cricket_wire::packet::{self, PacketError};

use crate::cgroup::Groups;
use crate::clone::Side;
use crate::command::{channel, set_oom_score};
use crate::failure::{Doing, Failure};
use crate::{Made, child, descriptor, reaper};

/// Makes it and waits until it is shut in.
pub(crate) fn make(config: &PodInitConfig) -> Result<Made, Failure> {
    let mut groups = Groups::open(&config.cgroup)?;
    let join: Vec<_> = config.namespace_fds.iter().map(|fd| descriptor::borrow(*fd)).collect::<Result<_, _>>()?;
    // A program of its own, so that what stays resident is small; this very file, which nobody can write to.
    let program = File::open("/proc/self/exe").doing("open own program")?;
    if let Some(score) = config.oom_score_adj {
        set_oom_score(score)?;
    }
    let (ours, theirs) = channel()?;
    // The PID namespace is to belong to the pod's user namespace, so that one is entered before the clone.
    if let Some(user) = config.user_fd {
        namespaces::join(descriptor::borrow(user)?)?;
    }
    let no_other = || Err(Failure::host("the pod's cgroup cannot hold processes"));
    match groups.clone(true, no_other, |clone| clone.run())? {
        Side::Child => {
            drop(ours);
            let failure = match enter(&mut groups, &join, config.user_fd.is_some()) {
                Ok(()) => become_reaper(program.as_fd(), theirs.as_fd()),
                Err(failure) => failure,
            };
            child::fail(failure, theirs.as_fd())
        }
        Side::Parent(pid) => {
            drop(theirs);
            await_ready(&ours)?;
            Ok(Made { pid, terminal: None })
        }
    }
}

/// Nothing but its own word counts: an init that ended early closes the channel, too.
fn await_ready(channel: &OwnedFd) -> Result<(), Failure> {
    match packet::receive::<Report>(channel, &mut vec![0; MAX_REPORT]) {
        Ok((Report { error: Some(failure), .. }, _)) => Err(failure.into()),
        // Then it closes all that it has, this channel last.
        Ok(_) => match packet::receive::<Report>(channel, &mut [0; 16]) {
            Err(PacketError::Closed) => Ok(()),
            other => Err(Failure::host(format!("the pod's init goes on after it was ready: {other:?}"))),
        },
        Err(PacketError::Closed) => Err(Failure::host("the pod's init ended before it was ready")),
        Err(error) => Err(Failure::host(format!("hear from the pod's init: {error}"))),
    }
}

fn enter(groups: &mut Groups, join: &[BorrowedFd<'_>], user_namespace: bool) -> Result<(), Failure> {
    groups.join()?;
    for namespace in join {
        namespaces::join(namespace)?;
    }
    if user_namespace {
        // As the host's root, who is nobody in there, it would lose its capabilities at execve.
        identity::change(0, 0, &[])?;
    }
    cricket_process::signals::reset().doing("reset signals")?;
    rustix::process::setsid().doing("start a session")?;
    Ok(())
}

/// Executes this program again, as reaper; it tells the channel when it is ready.
fn become_reaper(program: BorrowedFd<'_>, channel: BorrowedFd<'_>) -> Failure {
    if let Err(failure) =
        descriptor::close_on_exec_from(3).and_then(|()| descriptor::place(channel, reaper::CHANNEL, false).map(drop))
    {
        return failure;
    }
    let name = CString::from(reaper::NAME_C);
    let argv: [*const c_char; 2] = [name.as_ptr(), ptr::null()];
    let envp: [*const c_char; 1] = [ptr::null()];
    // SAFETY: an open descriptor with an empty path, and arrays that end with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Failure::host(format!("start the pod's init: {}", io::Error::last_os_error()))
}
