//! In the init: what the container must not read or write. Done before the root changes, while the host's `/dev/null`
//! can still be told from others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cricket_process::detached::{self, Change, Flags};

use super::dev;
use super::inside::{self, Kind};
use super::mounts::PROC;
use crate::error::Error;

/// Magic number of sysfs (linux/magic.h).
const SYSFS: u64 = 0x6265_6572;

/// Paths to hide and to protect.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    pub(super) masked: Vec<PathBuf>,
    pub(super) read_only: Vec<PathBuf>,
    /// The container has a procfs and a sysfs of its own.
    pub(super) proc: bool,
    pub(super) sys: bool,
}

impl Hidden {
    pub(super) fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Error> {
        self.read_only.iter().try_for_each(|path| self.protect(root, path))?;
        if self.masked.is_empty() {
            return Ok(());
        }
        let null = dev::open_null()?;
        // One empty file system for all directories.
        let mut empty = None;
        self.masked.iter().try_for_each(|path| self.mask(root, path, &null, &mut empty))
    }

    fn protect(&self, root: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        let Some(place) = self.find(root, path)? else { return Ok(()) };
        let failed = |e| failed("protect", path, &e);
        let tree = detached::clone_at(&place, true).map_err(failed)?;
        Change { set: Flags::READ_ONLY, ..Default::default() }.apply(&tree, true).map_err(failed)?;
        detached::attach(&tree, &place).map_err(failed)
    }

    fn mask(
        &self,
        root: BorrowedFd<'_>,
        path: &Path,
        null: &OwnedFd,
        empty: &mut Option<OwnedFd>,
    ) -> Result<(), Error> {
        let Some(place) = self.find(root, path)? else { return Ok(()) };
        let failed = |e| failed("mask", path, &e);
        match inside::kind(&place).map_err(|e| Error::io(format!("look at {}", path.display()), e))? {
            Kind::File => {
                let tree = detached::clone_at(null, false).map_err(failed)?;
                detached::attach(&tree, &place).map_err(failed)
            }
            Kind::Directory => {
                let tree = match empty {
                    // It is attached by now, so that it can be cloned.
                    Some(first) => detached::clone_at(&*first, false),
                    None => {
                        let flags = Flags::READ_ONLY.with(Flags::NO_DEV).with(Flags::NO_EXEC).with(Flags::NO_SUID);
                        detached::make(
                            "tmpfs",
                            "tmpfs",
                            [("mode", Some("755")), ("nr_blocks", Some("1")), ("nr_inodes", Some("1"))],
                            flags,
                        )
                    }
                };
                let tree = tree.map_err(failed)?;
                detached::attach(&tree, &place).map_err(failed)?;
                empty.get_or_insert(tree);
                Ok(())
            }
        }
    }

    /// The place, if there is one. A path of procfs or sysfs that leads elsewhere is an attempt to keep something
    /// unmasked (CVE-2025-52881).
    fn find(&self, root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, Error> {
        let place = match inside::open(root, path) {
            Ok(place) => place,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(Error::io(format!("look at {}", path.display()), e)),
        };
        let wanted = match () {
            () if self.proc && path.starts_with("/proc") => PROC,
            () if self.sys && path.starts_with("/sys") && !path.starts_with("/sys/fs") => SYSFS,
            () => return Ok(Some(place)),
        };
        match detached::file_system(place.as_fd()).map_err(|e| failed("look at", path, &e))? {
            found if found == wanted => Ok(Some(place)),
            _ => Err(Error::content(format!("{} leads out of its file system", path.display()))),
        }
    }
}

fn failed(action: &str, path: &Path, error: &cricket_process::Error) -> Error {
    Error::host(format!("{action} {}: {}", path.display(), error.to_line()))
}
