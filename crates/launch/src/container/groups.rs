//! The control groups that the container starts in.
//!
//! Writing to `cgroup.procs` waits for an RCU grace period, ten milliseconds and more; a v1 `tasks` file moves one thread
//! at once, and CLONE_INTO_CGROUP moves nothing. So: the init, which has one thread, writes `0` to each `tasks`, and is
//! cloned into the unified hierarchy, v2's only one or the one beside v1's.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cricket_wire::launch_config::LaunchCgroup;
use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::sys::{Clone, Side};

/// The groups, open.
#[derive(Debug)]
pub(super) struct Groups {
    tasks: Vec<(PathBuf, File)>,
    unified: Option<Unified>,
}

#[derive(Debug)]
struct Unified {
    dir: OwnedFd,
    procs: PathBuf,
}

/// How the init was cloned.
pub(super) struct Cloned {
    pub(super) side: Side,
    /// The unified group is still to be joined.
    pub(super) outside: bool,
}

impl Groups {
    pub(super) fn open(cgroup: &LaunchCgroup) -> Result<Self, Error> {
        let mut tasks = Vec::with_capacity(cgroup.v1_directories.len());
        for own in &cgroup.v1_directories {
            let path = own.directory.join("tasks");
            let file = File::options().write(true).open(&path);
            tasks.push((path.clone(), file.map_err(|e| Error::io(format!("open {}", path.display()), e))?));
        }
        let unified = cgroup.v2_directory.as_deref().or(cgroup.unified_directory.as_deref());
        Ok(Self { tasks, unified: unified.map(Unified::open).transpose()? })
    }

    /// Clones into the unified group. Where the kernel refuses that (a group that has enabled controllers for others
    /// below it: EBUSY; seccomp or an old kernel: EPERM, EINVAL, ENOSYS), outside of it.
    pub(super) fn clone(&self, new_pid_namespace: bool) -> Result<Cloned, Error> {
        let failed = |e| Error::io("clone the container's init", e);
        let run = |cgroup: Option<BorrowedFd<'_>>| Clone { new_pid_namespace, cgroup }.run();
        let Some(unified) = &self.unified else {
            return Ok(Cloned { side: run(None).map_err(failed)?, outside: false });
        };
        match run(Some(unified.dir.as_fd())) {
            Ok(side) => Ok(Cloned { side, outside: false }),
            Err(_) => Ok(Cloned { side: run(None).map_err(failed)?, outside: true }),
        }
    }

    /// In the init: joins what it was not cloned into.
    pub(super) fn join(&self, outside: bool) -> Result<(), Error> {
        for (path, file) in &self.tasks {
            (&*file).write_all(b"0").map_err(|e| Error::io(format!("join {}", path.display()), e))?;
        }
        match self.unified.as_ref().filter(|_| outside) {
            Some(unified) => std::fs::write(&unified.procs, "0")
                .map_err(|e| Error::io(format!("join {}", unified.procs.display()), e)),
            None => Ok(()),
        }
    }
}

impl Unified {
    fn open(dir: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(dir, flags, Mode::empty());
        let fd = fd.map_err(|e| Error::io(format!("open {}", dir.display()), e))?;
        Ok(Self { dir: fd, procs: dir.join("cgroup.procs") })
    }
}
