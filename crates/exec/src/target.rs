//! The container's init as the host sees it: everything that is read about it before its namespaces are entered.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use cricket_process::Pidfd;
use cricket_process::caps::{Set, Sets};
use cricket_process::namespaces::Kinds;
use cricket_process::userns::IdMap;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};

use crate::descriptor;
use crate::failure::{Doing, Failure};

/// The process to join.
pub(crate) struct Target {
    pub(crate) pidfd: Pidfd,
    directory: OwnedFd,
    /// Those of its namespaces that are not ours.
    pub(crate) namespaces: Kinds,
    /// Its root directory.
    pub(crate) root: OwnedFd,
    /// What it, and so what is executed beside it, may ever be capable of.
    pub(crate) bounding: Set,
    /// How its users are the host's; `None`: they are.
    users: Option<IdMap>,
}

impl Target {
    pub(crate) fn open(target_fd: i32) -> Result<Self, Failure> {
        let pidfd = descriptor::borrow(target_fd)?.try_clone_to_owned().doing("use the container's pidfd")?;
        let pidfd = Pidfd::from_fd(pidfd)?;
        let target = Self::read(pidfd.try_clone()?);
        // What was read by PID is about the process of the pidfd only if that one is there still.
        if pidfd.is_alive()? { target } else { Err(Failure::gone()) }
    }

    fn read(pidfd: Pidfd) -> Result<Self, Failure> {
        let pid = pidfd.pid()?.ok_or_else(Failure::gone)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).doing("open the container's /proc")?;
        let root = openat(&directory, "root", flags, Mode::empty()).doing("open the container's root")?;
        let namespaces = differing(&directory)?;
        let status = read(&directory, "status")?;
        let sets = Sets::parse_status(&status).ok_or_else(|| Failure::host("read the container's capabilities"))?;
        let users = match namespaces.contains(Kinds::USER) {
            true => Some(IdMap::parse(&read(&directory, "uid_map")?)?),
            false => None,
        };
        Ok(Self { pidfd, directory, namespaces, root, bounding: sets.bounding, users })
    }

    /// The host's ID of a user of the container; `None` when it has none.
    pub(crate) fn host_user(&self, uid: u32) -> Option<u32> {
        self.users.as_ref().map_or(Some(uid), |map| map.outside(uid))
    }

    /// Its `/proc/PID/oom_score_adj`.
    pub(crate) fn oom_score_adj(&self) -> Result<i32, Failure> {
        let text = read(&self.directory, "oom_score_adj")?;
        text.trim().parse().map_err(|_| Failure::host("read the container's oom_score_adj"))
    }

    /// The text of its `/proc/PID/cgroup`.
    pub(crate) fn cgroups(&self) -> Result<String, Failure> {
        read(&self.directory, "cgroup")
    }
}

fn read(directory: &OwnedFd, name: &str) -> Result<String, Failure> {
    let action = format!("read the container's /proc/PID/{name}");
    let file = openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).doing(&action)?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).doing(&action)?;
    Ok(text)
}

/// Joining a namespace that one is in already costs rights or fails, so equal ones are left out.
fn differing(directory: &OwnedFd) -> Result<Kinds, Failure> {
    let all = [Kinds::USER, Kinds::CGROUP, Kinds::IPC, Kinds::UTS, Kinds::NET, Kinds::PID, Kinds::MOUNT];
    let all = all.into_iter().fold(Kinds::NONE, Kinds::with);
    let mut differing = Kinds::NONE;
    for (kind, name) in all.each() {
        let theirs = statat(directory, format!("ns/{name}"), AtFlags::empty());
        let theirs = theirs.doing("look at the container's namespaces")?;
        let ours = statat(CWD, format!("/proc/self/ns/{name}"), AtFlags::empty()).doing("look at own namespaces")?;
        if (theirs.st_ino, theirs.st_dev) != (ours.st_ino, ours.st_dev) {
            differing = differing.with(kind);
        }
    }
    Ok(differing)
}
