//! Making a cgroup in every hierarchy, and marking what was made.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use crate::hierarchy::{Hierarchy, Kind};
use crate::{Cgroup, CgroupPath, Error, Hierarchies, Result, files};

/// The mark of an ancestor that cricket made, so that it may be removed when it is empty.
const MADE: &str = "trusted.cricket.made";
/// How often the chain is made again when another's removal takes an ancestor away in between.
const ATTEMPTS: usize = 10;

impl Cgroup {
    /// Makes the cgroup, and those of its ancestors that are missing, in every hierarchy. One that exists is kept.
    /// On failure what was made is removed again.
    pub fn create(hierarchies: &Hierarchies, path: &CgroupPath) -> Result<Self> {
        let group = Self::open(hierarchies, path);
        for hierarchy in hierarchies.all() {
            if let Err(e) = make_in(hierarchy, path) {
                // The first error is the one that says why.
                let _ = group.remove();
                return Err(e);
            }
        }
        Ok(group)
    }
}

fn make_in(hierarchy: &Hierarchy, path: &CgroupPath) -> Result<()> {
    for _ in 1..ATTEMPTS {
        match make_chain(hierarchy, path) {
            Err(e) if e.is_gone() => {}
            done => return done,
        }
    }
    make_chain(hierarchy, path)
}

fn make_chain(hierarchy: &Hierarchy, path: &CgroupPath) -> Result<()> {
    let mut parent = hierarchy.mount.clone();
    for prefix in path.chain() {
        if hierarchy.kind == Kind::V2 {
            enable_controllers(&parent)?;
        }
        let dir = hierarchy.mount.join(&prefix[1..]);
        match fs::create_dir(&dir) {
            Ok(()) if prefix != path.as_str() => mark(&dir),
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("make", &dir, e)),
        }
        if hierarchy.has("cpuset") {
            initialise_cpuset(&parent, &dir)?;
        }
        parent = dir;
    }
    Ok(())
}

/// A v1 cpuset without CPUs or memory nodes lets nobody join (cpuset(7)): an empty one takes its parent's.
fn initialise_cpuset(parent: &Path, dir: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = dir.join(name);
        if files::read(&file)?.trim().is_empty() {
            files::write(&file, files::read(&parent.join(name))?.trim())?;
        }
    }
    Ok(())
}

/// Lets the children of a v2 cgroup have every controller that it has itself. One that cannot be enabled here
/// (EBUSY: the cgroup holds processes; or a threaded subtree) is left: setting a limit of it says so then.
fn enable_controllers(parent: &Path) -> Result<()> {
    let has = files::read(&parent.join("cgroup.controllers"))?;
    let file = parent.join("cgroup.subtree_control");
    let enabled = files::read(&file)?;
    let missing = has.split_whitespace().filter(|c| !enabled.split_whitespace().any(|e| e == *c));
    for controller in missing {
        match files::write(&file, &format!("+{controller}")) {
            Err(e) if e.is_gone() && !files::exists(parent) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn mark(dir: &Path) {
    // Without the right to set it (a user namespace) the directory merely stays when its last pod goes.
    let _ = setxattr(dir, MADE, b"1", XattrFlags::empty());
}

/// Whether cricket made the directory.
pub(crate) fn is_marked(dir: &Path) -> bool {
    let mut value = [0u8; 8];
    matches!(getxattr(dir, MADE, &mut value), Ok(1..) | Err(Errno::RANGE))
}
