//! How the child gets into its control groups.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use cricket_wire::exec_config::CgroupJoin;
use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};

use crate::clone::Clone;
use crate::descriptor;
use crate::failure::{Doing, Failure};

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2: u64 = 0x6367_7270;

/// The groups with their descriptors.
pub(crate) struct Groups {
    /// v1: joined by the child.
    tasks: Vec<BorrowedFd<'static>>,
    /// v2: the child starts in it.
    directory: Option<BorrowedFd<'static>>,
}

impl Groups {
    pub(crate) fn open(join: &CgroupJoin) -> Result<Self, Failure> {
        let (tasks, directory): (&[i32], _) = match join {
            CgroupJoin::Stay => (&[], None),
            CgroupJoin::TasksFds(tasks) => (tasks, None),
            CgroupJoin::DirectoryFd(directory) => (&[], Some(*directory)),
            CgroupJoin::Hybrid { tasks_fds, directory_fd } => (tasks_fds, Some(*directory_fd)),
        };
        Ok(Self {
            tasks: tasks.iter().map(|fd| descriptor::borrow(*fd)).collect::<Result<_, Failure>>()?,
            directory: directory.map(descriptor::borrow).transpose()?,
        })
    }

    /// Makes a clone in the directory's group. When that one cannot hold processes, in the group that `instead` opens.
    pub(crate) fn clone<T>(
        &self,
        new_pid_namespace: bool,
        instead: impl FnOnce() -> Result<OwnedFd, Failure>,
        make: impl Fn(Clone<'_>) -> io::Result<T>,
    ) -> Result<T, Failure> {
        let Some(directory) = self.directory else {
            return make(Clone { new_pid_namespace, cgroup: None }).doing("clone");
        };
        match make(Clone { new_pid_namespace, cgroup: Some(directory) }) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let other = instead()?;
                let cgroup = Some(std::os::fd::AsFd::as_fd(&other));
                make(Clone { new_pid_namespace, cgroup }).doing("clone into the container's cgroup")
            }
            result => result.doing("clone into the cgroup"),
        }
    }

    /// In the child, which has one thread: joins the v1 groups. A thread moves without waiting for other processors,
    /// as writing to `cgroup.procs` would.
    pub(crate) fn join(&self) -> Result<(), Failure> {
        self.tasks.iter().try_for_each(|file| rustix::io::write(file, b"0").map(drop).doing("join a cgroup"))
    }
}

/// The v2 group of the process whose `/proc/PID/cgroup` has this text.
pub(crate) fn own_group_of(cgroup_file: &str) -> Result<OwnedFd, Failure> {
    let path = cgroup_file.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.ok_or_else(|| Failure::host("the container has no cgroup v2"))?;
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(directory) = openat(CWD, format!("{mount}{path}"), flags, Mode::empty()) else { continue };
        if fstatfs(&directory).doing("look at a cgroup")?.f_type as u64 == CGROUP2 {
            return Ok(directory);
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound)).doing(&format!("open the container's cgroup {path}"))
}
