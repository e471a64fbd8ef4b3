//! Pins: files that keep a namespace alive without a process, as `/run/netns/NAME` does.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::error::{Doing, Result};

/// Makes the file `path` and mounts the namespace `fd` on it. `AlreadyExists` when there is such a file; on failure
/// there is none.
pub fn pin(fd: impl AsFd, path: &Path) -> Result<()> {
    let create = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, create, Mode::empty()).doing(|| format!("create {}", path.display()))?;
    let source = format!("/proc/thread-self/fd/{}", fd.as_fd().as_raw_fd());
    mount_bind(source, path)
        .inspect_err(|_| {
            let _ = unlinkat(CWD, path, rustix::fs::AtFlags::empty());
        })
        .doing(|| format!("pin a namespace at {}", path.display()))
}

/// Unmounts whatever is mounted on the file `path` and removes it. Succeeds when it is gone already.
pub fn unpin(path: &Path) -> Result<()> {
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // There may be several, one on the other.
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(error).doing(|| format!("unmount {}", path.display())),
        }
    }
    match unlinkat(CWD, path, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).doing(|| format!("remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespaces::{self, Kinds};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn pinned_found_again_and_unpinned() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("uts");
        let (fds, ()) = namespaces::make(Kinds::UTS, || namespaces::set_hostname("pinned")).expect("make");
        let inode = rustix::fs::fstat(&fds[0].1).expect("stat").st_ino;
        pin(&fds[0].1, &path).expect("pin");
        drop(fds);
        assert_eq!(std::fs::metadata(&path).expect("stat").ino(), inode);
        assert!(crate::mounts::is_mount_point(&path).expect("mount"));
        let file = std::fs::File::open(&path).expect("open");
        let name = namespaces::inside(&file, || Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()));
        assert_eq!(name.expect("join"), "pinned");
        let again = pin(&file, &path).expect_err("exists");
        assert_eq!(again.io().kind(), std::io::ErrorKind::AlreadyExists);
        unpin(&path).expect("unpin");
        unpin(&path).expect("again");
        assert!(!path.exists());
    }

    #[test]
    fn only_namespaces_and_files_and_no_rest() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("pin");
        let (reader, _writer) = std::io::pipe().expect("pipe");
        assert!(pin(&reader, &path).is_err());
        assert!(!path.exists());
    }
}
