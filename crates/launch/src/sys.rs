//! The few system calls without a safe wrapper.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::FdFlags;
use rustix::process::Signal;

/// Makes every descriptor above 2 close-on-exec.
pub(crate) fn protect_descriptors() -> io::Result<()> {
    // SAFETY: changes flags of descriptors, closes none.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

/// Takes ownership of an inherited descriptor; `None` when there is none of that number. Each number is taken once.
pub(crate) fn take(number: i32) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: the protocol gives the helper this descriptor for its own, and nothing else in the program has it;
    // whether it is open is asked before it is used for anything else.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    match rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC) {
        Ok(()) => Some(fd),
        Err(_) => {
            std::mem::forget(fd);
            None
        }
    }
}

/// Gives every signal its default action and unblocks all: Rust ignores SIGPIPE, and a parent may have left others
/// ignored or blocked, which execve(2) would hand on.
pub(crate) fn reset_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is used; SIG_DFL is valid for every signal, and those
    // that cannot be changed (SIGKILL, SIGSTOP, the C library's own) are refused with an error that does not matter.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// execve(2); returns only to say why it failed.
pub(crate) fn execve(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer, and they and their strings live through the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// `BPF_PROG_LOAD`, `BPF_PROG_TYPE_CGROUP_DEVICE`, `BPF_PROG_ATTACH`, `BPF_CGROUP_DEVICE`, `BPF_F_ALLOW_MULTI`.
const PROG_LOAD: libc::c_int = 5;
const PROG_TYPE: u32 = 15;
const PROG_ATTACH: libc::c_int = 8;
const ATTACH_TYPE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The first members of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The members of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Attaches a device program (bpf(2) instructions) to a v2 cgroup, besides those that are there; it lives as long as
/// the cgroup.
pub(crate) fn attach_device_program(program: &[u64], cgroup: &OwnedFd) -> io::Result<()> {
    let load = LoadAttr {
        prog_type: PROG_TYPE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the structure, the instructions and the string live through the call; their sizes are given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<LoadAttr>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else has; the kernel makes it close-on-exec.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attach = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: fd.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE,
        attach_flags: ALLOW_MULTI,
    };
    // SAFETY: the structure lives through the call and holds integers only.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<AttachAttr>()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
