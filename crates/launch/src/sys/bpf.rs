//! bpf(2): device programs of cgroups.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

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
