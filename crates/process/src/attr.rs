//! The files of `/proc` that take security labels, see proc_pid_attr(5). A thread can only label itself.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::detached::file_system;
use crate::error::{Doing, Error, Result};

/// `PROC_SUPER_MAGIC` of linux/magic.h.
const PROC: u64 = 0x9fa0;

/// Opens a file of the calling thread for writing: `exec`, `keycreate`, `apparmor/exec`. What is written to it counts at
/// the next execve, or for keyrings made from then on. Only a file of procfs does anything (CVE-2019-16884,
/// CVE-2025-52881).
pub fn open(name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/thread-self/attr/{name}");
    let action = || format!("open {path}");
    let file = openat(CWD, &*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).doing(action)?;
    match file_system(&file)? {
        PROC => Ok(file),
        _ => Err(Error::new(action(), std::io::Error::other("/proc is no procfs"))),
    }
}

/// Opens `apparmor/exec`; kernels before 5.8 have only the older name.
pub fn open_apparmor() -> Result<OwnedFd> {
    open("apparmor/exec").or_else(|_| open("exec"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_the_kernel_has() {
        // Whether or not a security module serves them.
        open("exec").expect("exec");
        open("keycreate").expect("keycreate");
        open_apparmor().expect("apparmor");
        assert!(open("no-such-file").is_err());
    }
}
