//! The central type: one path in every hierarchy.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::hierarchy::{Kind, Version};
use crate::{CgroupPath, Error, Hierarchies, Hierarchy, Result, files};

/// A cgroup: the directory of one path in every hierarchy. Holding the value holds nothing open.
#[derive(Debug, Clone)]
pub struct Cgroup {
    pub(crate) hierarchies: Hierarchies,
    pub(crate) path: CgroupPath,
}

/// What a process needs to join a cgroup without waiting for an RCU grace period, as writing to `cgroup.procs` would.
/// All descriptors are close-on-exec.
#[derive(Debug, Default)]
pub struct JoinFds {
    /// v1: the `tasks` file of each hierarchy; the single-threaded process writes `0` to each.
    pub tasks: Vec<OwnedFd>,
    /// The unified hierarchy, v2's only one or the one beside v1's: its directory, for `CLONE_INTO_CGROUP`.
    pub directory: Option<OwnedFd>,
}

impl Cgroup {
    /// A cgroup that exists, or may; nothing is looked at.
    pub fn open(hierarchies: &Hierarchies, path: &CgroupPath) -> Self {
        Self { hierarchies: hierarchies.clone(), path: path.clone() }
    }

    /// The path in every hierarchy.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The hierarchies it is in.
    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    /// Whether the cgroup is there, in the hierarchy that answers for its processes.
    pub fn exists(&self) -> bool {
        files::exists(&self.procs_dir())
    }

    /// What a process needs to join.
    pub fn join_fds(&self) -> Result<JoinFds> {
        let mut fds = JoinFds::default();
        for hierarchy in self.hierarchies.all() {
            fds.add(&hierarchy.kind, &self.path.under(&hierarchy.mount))?;
        }
        Ok(fds)
    }

    /// v1: its directory in the unified hierarchy beside, if the host has one. `None` on v2.
    pub fn unified_directory(&self) -> Option<PathBuf> {
        match self.hierarchies.version() {
            Version::V2 => None,
            Version::V1 => self.hierarchies.unified().map(|h| self.path.under(&h.mount)),
        }
    }

    /// Its directory in the hierarchy that answers for its processes: v1's `pids`, v2's only one.
    pub fn processes_dir(&self) -> PathBuf {
        self.procs_dir()
    }

    /// Its directory in the hierarchy that counts OOM kills; `None` without a memory controller.
    pub fn memory_dir(&self) -> Option<PathBuf> {
        self.controller("memory").map(|(dir, _)| dir)
    }

    /// v1: its directory in each hierarchy with a controller and in the named ones, each with the name of the
    /// hierarchy's mount (`memory`, `cpu,cpuacct`, `systemd`), for showing them in a container. Empty on v2.
    pub fn v1_directories(&self) -> Vec<(String, PathBuf)> {
        let v1 = self.hierarchies.all().iter().filter(|h| matches!(h.kind, Kind::V1(_)));
        v1.filter_map(|h| Some((h.mount.file_name()?.to_str()?.to_owned(), self.path.under(&h.mount)))).collect()
    }

    /// v2: its directory. `None` on v1 and hybrid hosts.
    pub fn v2_directory(&self) -> Option<PathBuf> {
        (self.hierarchies.version() == Version::V2).then(|| self.procs_dir())
    }

    /// The cgroup's directory in the hierarchy of a controller: the v1 mount, or the unified one.
    pub(crate) fn controller(&self, name: &str) -> Option<(PathBuf, Version)> {
        if let Some(h) = self.hierarchies.v1(name) {
            return Some((self.path.under(&h.mount), Version::V1));
        }
        self.hierarchies.unified().map(|h| (self.path.under(&h.mount), Version::V2))
    }

    /// The hierarchy that answers for its processes: v1 `pids` (where exec leaves are), else any; v2 the only one.
    pub(crate) fn procs_hierarchy(&self) -> Option<&Hierarchy> {
        let best = ["pids", "freezer", "memory", "cpu"].iter().find_map(|c| self.hierarchies.v1(c));
        best.or_else(|| self.hierarchies.all().first())
    }

    /// The cgroup's directory in that hierarchy.
    pub(crate) fn procs_dir(&self) -> PathBuf {
        match self.procs_hierarchy() {
            Some(h) => self.path.under(&h.mount),
            None => PathBuf::from(self.path.as_str()),
        }
    }
}

impl JoinFds {
    /// Opens what joins `dir`, of a hierarchy of this kind.
    pub(crate) fn add(&mut self, kind: &Kind, dir: &Path) -> Result<()> {
        match kind {
            Kind::V1(_) => self.tasks.push(open_for_writing(&dir.join("tasks"))?),
            Kind::V2 => self.directory = Some(open_dir(dir)?),
        }
        Ok(())
    }
}

fn open_for_writing(path: &Path) -> Result<OwnedFd> {
    let file: File = OpenOptions::new().write(true).open(path).map_err(|e| Error::io("open", path, e))?;
    Ok(file.into())
}

pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e))
}
