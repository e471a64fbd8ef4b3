//! The container's init as the host sees it: everything that is read about it before its namespaces are entered.

use std::os::fd::OwnedFd;

use cricket_process::Pidfd;
use cricket_process::caps::{Set, Sets};
use cricket_process::namespaces::Kinds;
use cricket_process::userns::IdMap;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};

use crate::descriptor;
use crate::failure::{Doing, Failure};

/// Longest file of the target that is read, in bytes; a user namespace maps at most 340 ranges.
const MAX_FILE: usize = 256 * 1024;

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

/// What is read of it: its folder in `/proc`, its root, namespaces, bounding set and users.
type Facts = (OwnedFd, OwnedFd, Kinds, Set, Option<IdMap>);

impl Target {
    /// `namespaces`: those that are not ours, when that is known.
    pub(crate) fn open(target_fd: i32, namespaces: Option<Kinds>) -> Result<Self, Failure> {
        let pidfd = descriptor::borrow(target_fd)?.try_clone_to_owned().doing("use the container's pidfd")?;
        let pidfd = Pidfd::from_fd(pidfd)?;
        let target = Self::read(&pidfd, namespaces);
        // What was read by PID is about the process of the pidfd only if that one is there still.
        if !pidfd.is_alive()? {
            return Err(Failure::gone());
        }
        let (directory, root, namespaces, bounding, users) = target?;
        Ok(Self { pidfd, directory, namespaces, root, bounding, users })
    }

    fn read(pidfd: &Pidfd, namespaces: Option<Kinds>) -> Result<Facts, Failure> {
        let pid = pidfd.pid()?.ok_or_else(Failure::gone)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).doing("open the container's /proc")?;
        let root = openat(&directory, "root", flags, Mode::empty()).doing("open the container's root")?;
        let namespaces = namespaces.map_or_else(|| differing(&directory), Ok)?;
        let status = read(&directory, "status")?;
        let sets = Sets::parse_status(&status).ok_or_else(|| Failure::host("read the container's capabilities"))?;
        let users = match namespaces.contains(Kinds::USER) {
            true => Some(IdMap::parse(&read(&directory, "uid_map")?)?),
            false => None,
        };
        Ok((directory, root, namespaces, sets.bounding, users))
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
    // Most of these files come in one piece: two reads.
    let mut text = Vec::with_capacity(4096);
    loop {
        text.reserve(4096);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text)).doing(&action)? {
            0 => break,
            _ if text.len() <= MAX_FILE => {}
            _ => return Err(Failure::host(format!("{action}: it does not end"))),
        }
    }
    // A process calls itself whatever it likes.
    Ok(String::from_utf8_lossy(&text).into_owned())
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
