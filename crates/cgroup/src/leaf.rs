//! A cgroup leaf for one exec in a container, so that a timeout ends that exec with all its children and no more.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::group::{JoinFds, open_dir, open_for_writing};
use crate::hierarchy::Version;
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
        let version = self.group.hierarchies.version();
        if version == Version::V2 {
            return Ok(JoinFds { version, fds: vec![open_dir(&self.dir)?] });
        }
        let own = self.group.procs_dir();
        let mut fds: Vec<OwnedFd> = vec![open_for_writing(&self.dir.join("tasks"))?];
        for file in self.group.tasks_files().iter().filter(|f| f.parent() != Some(own.as_path())) {
            fds.push(open_for_writing(file)?);
        }
        Ok(JoinFds { version, fds })
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
