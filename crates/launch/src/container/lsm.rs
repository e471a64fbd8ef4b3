//! In the init: labels for the next execve, through files of `/proc` that are opened while `/proc` is the host's.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use cricket_process::{detached, keyring};

use super::mounts::PROC;
use crate::error::Error;

/// Files that take labels, open; `None` where no label was asked for.
#[derive(Debug, Default)]
pub(super) struct Labels {
    pub(super) apparmor: Option<OwnedFd>,
    pub(super) selinux: Option<OwnedFd>,
}

impl Labels {
    /// A process may only label itself: they are opened by the one that executes.
    pub(super) fn open(apparmor: Option<&str>, selinux: Option<&str>) -> Result<Self, Error> {
        // Kernels before 5.8 have only the older name.
        let profile = |_| open("apparmor/exec").or_else(|_| open("exec")).map_err(|e| Error::io("use AppArmor", e));
        let label = |_| open("exec").map_err(|e| Error::io("use SELinux", e));
        Ok(Self { apparmor: apparmor.map(profile).transpose()?, selinux: selinux.map(label).transpose()? })
    }
}

/// A session keyring of the container's own, with its SELinux label.
pub(super) fn new_keyring(selinux: Option<&str>) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::io("label the session keyring", e);
    let file = selinux.map(|_| open("keycreate")).transpose().map_err(failed)?.map(File::from);
    if let (Some(mut file), Some(label)) = (file.as_ref(), selinux) {
        file.write_all(label.as_bytes()).map_err(failed)?;
    }
    keyring::new_session().map_err(|e| Error::host(e.to_line()))?;
    match file {
        Some(mut file) => file.write_all(b"\n").map_err(failed),
        None => Ok(()),
    }
}

/// Only a file of procfs does anything (CVE-2019-16884, CVE-2025-52881).
fn open(name: &str) -> std::io::Result<OwnedFd> {
    let file = File::options().write(true).open(format!("/proc/thread-self/attr/{name}"))?;
    match detached::file_system(&file) {
        Ok(PROC) => Ok(file.into()),
        _ => Err(std::io::Error::other("/proc is no procfs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for() {
        let none = Labels::open(None, None).expect("none");
        assert!(none.apparmor.is_none() && none.selinux.is_none());
        // The kernel has the file whether or not a security module serves it.
        assert!(Labels::open(None, Some("label")).expect("file").selinux.is_some());
        assert!(open("no-such-file").is_err());
    }
}
