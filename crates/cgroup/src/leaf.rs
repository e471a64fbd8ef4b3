//! A cgroup leaf for one exec in a container, so that a timeout ends that exec with all its children and no more.

use std::path::PathBuf;

use crate::group::{JoinFds, open_dir, open_for_writing};
use crate::hierarchy::{Kind, Version};
use crate::path::check_name;
use crate::{Cgroup, Error, Result, files, kill, remove};

/// The leaf of one exec. On v1 a child of the container's `pids` cgroup only, the limits of which hold for it too;
/// on v2 a child without controllers of its own.
#[derive(Debug, Clone)]
pub struct ExecLeaf {
    group: Cgroup,
    dir: PathBuf,
}

impl Cgroup {
    /// Makes a leaf; `name` is unique among the container's execs. Errors with EBUSY-like causes do not occur here:
    /// on v2 joining may fail where the container enabled controllers for children of its own.
    pub fn exec_leaf(&self, name: &str) -> Result<ExecLeaf> {
        let leaf = self.open_exec_leaf(name)?;
        std::fs::create_dir(&leaf.dir).map_err(|e| Error::io("make", &leaf.dir, e))?;
        Ok(leaf)
    }

    /// A leaf that was made before.
    pub fn open_exec_leaf(&self, name: &str) -> Result<ExecLeaf> {
        check_name(name)?;
        Ok(ExecLeaf { group: self.clone(), dir: self.procs_dir().join(name) })
    }
}

impl ExecLeaf {
    /// The leaf's directory.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// What the exec's process needs to join: the leaf, and on v1 the container's own cgroup in every other
    /// hierarchy.
    pub fn join_fds(&self) -> Result<JoinFds> {
        let own = self.group.procs_dir();
        let mut fds = JoinFds::default();
        for hierarchy in self.group.hierarchies.all() {
            let dir = self.group.path.under(&hierarchy.mount);
            let dir = if dir == own { self.dir.clone() } else { dir };
            match hierarchy.kind {
                Kind::V1(_) => fds.tasks.push(open_for_writing(&dir.join("tasks"))?),
                Kind::V2 => fds.directory = Some(open_dir(&dir)?),
            }
        }
        Ok(fds)
    }

    /// PIDs of the leaf's processes.
    pub fn procs(&self) -> Result<Vec<i32>> {
        kill::procs_below(&self.dir)
    }

    /// Sends SIGKILL to all of the exec's processes, however fast they fork: on v1 a task limit of zero stops that.
    pub fn kill_all(&self) -> Result<()> {
        let result = match self.group.hierarchies.version() {
            Version::V2 => files::write(&self.dir.join("cgroup.kill"), "1"),
            Version::V1 => files::write(&self.dir.join("pids.max"), "0").and_then(|()| kill::kill_loop(&self.dir)),
        };
        match result {
            Err(e) if e.is_gone() => Ok(()),
            done => done,
        }
    }

    /// Removes the leaf and what is below it; waits up to a second for dying processes.
    pub fn remove(&self) -> Result<()> {
        remove::remove_tree(&self.dir)
    }
}
