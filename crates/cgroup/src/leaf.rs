//! A cgroup leaf for one exec in a container, so that a timeout ends that exec with all its children and no more.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::group::JoinFds;
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

/// Open files of a container's cgroup that all its execs join by: those of the hierarchies in which execs have no leaf.
/// Opening them takes longer than joining, and they change as little as the container's processes' cgroup does.
#[derive(Debug)]
pub struct ExecFiles(JoinFds);

impl Cgroup {
    /// Opens what all execs need.
    pub fn exec_files(&self) -> Result<ExecFiles> {
        let own = self.procs_dir();
        let mut fds = JoinFds::default();
        for hierarchy in self.hierarchies.all() {
            let dir = self.path.under(&hierarchy.mount);
            if dir != own {
                fds.add(&hierarchy.kind, &dir)?;
            }
        }
        Ok(ExecFiles(fds))
    }

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
    /// hierarchy, of which `files` are.
    pub fn join_fds(&self, files: &ExecFiles) -> Result<JoinFds> {
        let dup = |fd: &OwnedFd| fd.try_clone().map_err(|e| Error::io("duplicate the files of", &self.dir, e));
        let mut fds = JoinFds {
            tasks: files.0.tasks.iter().map(dup).collect::<Result<_>>()?,
            directory: files.0.directory.as_ref().map(dup).transpose()?,
        };
        if let Some(hierarchy) = self.group.procs_hierarchy() {
            fds.add(&hierarchy.kind, &self.dir)?;
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
