//! In the init: labels for the next execve, through files of `/proc` that are opened while `/proc` is the host's.

use std::os::fd::OwnedFd;

use cricket_process::attr;

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
        let profile = |_| attr::open_apparmor().map_err(|e| Error::host(format!("use AppArmor: {}", e.to_line())));
        let label = |_| attr::open("exec").map_err(|e| Error::host(format!("use SELinux: {}", e.to_line())));
        Ok(Self { apparmor: apparmor.map(profile).transpose()?, selinux: selinux.map(label).transpose()? })
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
    }
}
