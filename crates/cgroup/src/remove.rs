//! Removing a cgroup with all below it, and the ancestors that cricket made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use crate::group::open_dir;
use crate::{Cgroup, Error, Result, make};

/// How deep a container may nest cgroups for them to be found; deeper ones make removal fail with the path.
const MAX_DEPTH: usize = 200;
/// Waits between attempts while the kernel still has a dying process in the cgroup; about a second in all.
const WAITS_MS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

impl Cgroup {
    /// Removes the cgroup in every hierarchy, cgroups below it (exec leaves, a nested runtime's) first, then the
    /// ancestors that cricket made and that are empty now. Gone already counts as removed. Waits up to a second for
    /// dying processes; living ones make it fail. Every hierarchy is tried, the first error is returned.
    pub fn remove(&self) -> Result<()> {
        let mut first = Ok(());
        for hierarchy in self.hierarchies.all() {
            let removed = remove_tree(&self.path.under(&hierarchy.mount));
            if removed.is_ok() {
                self.remove_ancestors(&hierarchy.mount);
            }
            first = first.and(removed);
        }
        first
    }

    fn remove_ancestors(&self, mount: &Path) {
        for prefix in self.path.chain().rev().skip(1) {
            let dir = mount.join(&prefix[1..]);
            // Not empty (EBUSY) means that another pod is in it, whose removal comes here again.
            if !make::is_marked(&dir) || rustix::fs::rmdir(&dir).is_err() {
                return;
            }
        }
    }
}

/// Removes one cgroup directory with all below it.
pub(crate) fn remove_tree(dir: &Path) -> Result<()> {
    let mut waits = WAITS_MS.iter();
    loop {
        match try_remove(dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => match waits.next() {
                Some(ms) => sleep(Duration::from_millis(*ms)),
                None => return Err(Error::io("remove", dir, Errno::BUSY)),
            },
            Err(e) => return Err(Error::io("remove", dir, e)),
        }
    }
}

fn try_remove(dir: &Path) -> rustix::io::Result<()> {
    match rustix::fs::rmdir(dir) {
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        done => return done,
    }
    let fd = open_dir(dir).map_err(|e| e.errno().map_or(Errno::IO, Errno::from_raw_os_error))?;
    remove_children(fd.as_fd(), 0)?;
    rustix::fs::rmdir(dir)
}

fn remove_children(dir: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
    for name in children(dir)? {
        match unlinkat(dir, name.as_c_str(), AtFlags::REMOVEDIR) {
            Err(Errno::BUSY | Errno::NOTEMPTY) if depth < MAX_DEPTH => {
                remove_children(open_child(dir, &name)?.as_fd(), depth + 1)?;
                unlinkat(dir, name.as_c_str(), AtFlags::REMOVEDIR)?;
            }
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Names of the cgroups directly below.
fn children(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn open_child(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// Calls `each` with the directory of a cgroup and of every one below it. One that vanishes meanwhile is passed over.
pub(crate) fn walk(
    dir: BorrowedFd<'_>,
    each: &mut dyn FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    walk_from(dir, 0, each)
}

fn walk_from(
    dir: BorrowedFd<'_>,
    depth: usize,
    each: &mut dyn FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    each(dir)?;
    if depth >= MAX_DEPTH {
        return Ok(());
    }
    for name in children(dir)? {
        match open_child(dir, &name) {
            Ok(child) => walk_from(child.as_fd(), depth + 1, each)?,
            Err(Errno::NOENT | Errno::NODEV) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
