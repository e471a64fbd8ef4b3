//! What the running kernel can do, found out by trying, for `doctor` and for choosing between ways.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, OpenTreeFlags, fsopen, open_tree};
use serde::{Deserialize, Serialize};

use crate::mounts::MountAttributes;
use crate::pidfd::Pidfd;

/// The kernel interfaces that cricket uses and that not every supported kernel has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFeatures {
    /// The release, as uname(2) says it.
    pub release: String,
    /// pidfd_open(2), 5.3. Needed.
    pub pidfd: bool,
    /// openat2(2), 5.6. Needed.
    pub openat2: bool,
    /// close_range(2), 5.9. Needed.
    pub close_range: bool,
    /// fsopen(2) and open_tree(2), 5.2, and the right to use them.
    pub mount_api: bool,
    /// mount_setattr(2), 5.12: recursive read-only and id-mapped mounts.
    pub mount_setattr: bool,
    /// A process's exit status is kept by its pidfd (`PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`), 6.15.
    pub pidfd_exit_info: bool,
    /// Executable memory files are allowed (`vm.memfd_noexec`).
    pub executable_memfd: bool,
    /// seccomp(2) filters.
    pub seccomp: bool,
    /// User namespaces may be made: `user.max_user_namespaces` is not zero.
    pub user_namespaces: bool,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// SELinux is enabled.
    pub selinux: bool,
}

impl KernelFeatures {
    /// Tries everything. Leaves nothing behind.
    pub fn probe() -> Self {
        let here = openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty());
        let tree = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
        let setattr = tree.as_ref().is_ok_and(|tree| {
            MountAttributes { read_only: true, ..Default::default() }.apply(tree.as_fd(), false).is_ok()
        });
        Self {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            pidfd: Pidfd::open(std::process::id() as i32).is_ok(),
            openat2: !matches!(here, Err(Errno::NOSYS)),
            // SAFETY: flags that no kernel knows, so that nothing is closed: EINVAL where the call exists.
            close_range: unsafe { libc::syscall(libc::SYS_close_range, 3, 3, 0x4000_0000) } == -1
                && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL),
            mount_api: tree.is_ok() && fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).is_ok(),
            mount_setattr: setattr,
            pidfd_exit_info: Pidfd::keeps_exit_info(),
            executable_memfd: crate::memfd::executable_memfd(),
            seccomp: crate::seccomp::available(),
            user_namespaces: std::fs::read_to_string("/proc/sys/user/max_user_namespaces")
                .is_ok_and(|text| text.trim() != "0"),
            apparmor: std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y")),
            selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }

    /// Names of the interfaces without which cricket cannot run a container here.
    pub fn missing(&self) -> Vec<&'static str> {
        let needed = [
            (self.pidfd, "pidfd_open"),
            (self.openat2, "openat2"),
            (self.close_range, "close_range"),
            (self.seccomp, "seccomp filters"),
        ];
        needed.into_iter().filter(|(has, _)| !has).map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_suffices() {
        let features = KernelFeatures::probe();
        assert!(features.missing().is_empty(), "{features:?}");
        assert!(features.mount_api && features.mount_setattr, "{features:?}");
        assert!(features.release.contains('.'));
    }
}
