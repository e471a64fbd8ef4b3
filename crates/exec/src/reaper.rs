//! The init of a pod with a shared PID namespace: this program under the name `cricket-init`.
//!
//! It lives in an empty, read-only file system, with no descriptor, no capability and a user of its own: containers of
//! the pod see it as PID 1, and its `/proc/1/root` and `/proc/1/fd` must lead nowhere. The kernel reaps for it. It
//! ends, and so ends the whole PID namespace, on a `SIGTERM` from outside; containers cannot end it.

use std::ffi::CStr;
use std::os::fd::AsFd;

use cricket_process::caps::{self, Set};
use cricket_process::identity;
use cricket_wire::helper::Report;
use prost::Message;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{DumpableBehavior, chdir, fchdir, pivot_root, set_dumpable_behavior};
use rustix::thread::{UnshareFlags, set_name, set_no_new_privs, unshare_unsafe};

use crate::child;
use crate::descriptor;
use crate::failure::{Doing, Failure};

/// `argv[0]` that selects it.
pub(crate) const NAME_C: &CStr = c"cricket-init";
/// Where it tells its maker that it is ready, or why it failed.
pub(crate) const CHANNEL: i32 = 3;

/// A user and group that files of images do not belong to: the last ID of a pod's usual 65536.
const NOBODY: u32 = 65535;

/// Returns at the end; true: it was asked for.
pub(crate) fn run() -> bool {
    // Refused where somebody inside a container calls this program by that name.
    if std::process::id() != 1 {
        return false;
    }
    let Ok(channel) = descriptor::borrow(CHANNEL) else { return false };
    if let Err(failure) = block_signals().and_then(|()| shut_in()) {
        child::fail(failure, channel);
    }
    let ready = Report { pid: 1, error: None, terminal: false };
    let told = rustix::io::write(channel, &ready.encode_to_vec()).is_ok();
    let ready = told && descriptor::close_from(0).is_ok();
    if ready {
        wait_for_the_end();
    }
    ready
}

/// The init of a container of its own, which a runtime has shut in already: it is told nothing and asked nothing.
/// Returns at the end; true: it was asked for.
pub(crate) fn run_alone() -> bool {
    let ready = std::process::id() == 1 && block_signals().is_ok();
    if ready {
        wait_for_the_end();
    }
    ready
}

/// Gives up everything but waiting.
fn shut_in() -> Result<(), Failure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("hide from ptrace")?;
    // Executed by descriptor, it would be called after its file.
    set_name(NAME_C).doing("set own name")?;
    // SAFETY: nothing but the mount namespace is unshared, and there is one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.doing("make a mount namespace")?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .doing("leave the host's mounts")?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).doing("make an empty root")?;
    fsconfig_create(context.as_fd()).doing("make an empty root")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing("make an empty root")?;
    // On some directory that every host has; pivot_root needs the new root to be mounted.
    move_mount(&root, "", rustix::fs::CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).doing("mount the root")?;
    fchdir(&root).doing("enter the root")?;
    // Both are the same directory: the old root comes to lie on the new one and is taken away from there.
    pivot_root(".", ".").doing("change the root")?;
    unmount(".", UnmountFlags::DETACH).doing("leave the host's root")?;
    chdir("/").doing("enter the root")?;

    caps::limit_bounding(Set::EMPTY)?;
    // A pod's user namespace may map fewer IDs.
    identity::change(NOBODY, NOBODY, &[]).or_else(|_| identity::change(0, 0, &[]))?;
    caps::set(Set::EMPTY, Set::EMPTY)?;
    set_no_new_privs(true).doing("set no_new_privs")?;
    Ok(())
}

fn block_signals() -> Result<(), Failure> {
    // SAFETY: the set is initialised by sigfillset; SIGCHLD is ignored, so that the kernel reaps all children,
    // also those that others left behind.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        if libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()) == -1
            || libc::signal(libc::SIGCHLD, libc::SIG_IGN) == libc::SIG_ERR
        {
            return Err(std::io::Error::last_os_error()).doing("block signals");
        }
    }
    Ok(())
}

fn wait_for_the_end() {
    // SAFETY: the set is initialised by sigemptyset, and `info` is a place for what is received.
    unsafe {
        let mut awaited: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut awaited);
        libc::sigaddset(&mut awaited, libc::SIGTERM);
        loop {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let received = libc::sigwaitinfo(&awaited, &mut info);
            // A sender outside of this PID namespace has no PID in it. One inside cannot pretend that with this code.
            if received == libc::SIGTERM && info.si_code == libc::SI_USER && info.si_pid() == 0 {
                return;
            }
        }
    }
}
