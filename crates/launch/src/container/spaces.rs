//! Namespaces: which of them the container joins, and which are made for it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use cricket_process::identity;
use cricket_process::namespaces::Kinds;
use cricket_process::userns::{self, IdMap, Range};
use libcontainer::oci_spec::runtime::{Linux, LinuxNamespaceType};
use rustix::fs::{AtFlags, CWD, fstat, statat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::mounts::ranges;
use crate::error::Error;
use crate::sys;

/// The namespaces of a container.
#[derive(Debug)]
pub(super) struct Spaces {
    /// To be joined: all but the user namespace.
    joined: Vec<(Kinds, OwnedFd)>,
    /// To be made.
    new: Kinds,
    pub(super) user: Option<User>,
}

/// The container's user namespace. It always exists before the container does: the pod's, or one made here.
#[derive(Debug)]
pub(super) struct User {
    pub(super) fd: OwnedFd,
    users: Vec<Range>,
    groups: Vec<Range>,
}

impl User {
    /// Whether it maps IDs exactly so.
    pub(super) fn maps(&self, users: &[Range], groups: &[Range]) -> bool {
        self.users == users && self.groups == groups
    }

    /// The host's ID of one of its users.
    pub(super) fn host_user(&self, uid: u32) -> Option<u32> {
        IdMap::of(&self.users).outside(uid)
    }
}

impl Spaces {
    /// Opens what is joined. `user_fd` is the pod's user namespace, if the daemon gave one.
    pub(super) fn open(linux: &Linux, user_fd: Option<i32>) -> Result<Self, Error> {
        let mut spaces = Self { joined: Vec::new(), new: Kinds::NONE, user: None };
        let mappings = || {
            let users = ranges(linux.uid_mappings().as_deref().unwrap_or_default());
            (users, ranges(linux.gid_mappings().as_deref().unwrap_or_default()))
        };
        if let Some(number) = user_fd {
            let missing = || Error::host(format!("no user namespace in descriptor {number}"));
            let (users, groups) = mappings();
            spaces.user = Some(User { fd: sys::take(number).ok_or_else(missing)?, users, groups });
        }
        for namespace in linux.namespaces().iter().flatten() {
            let kind = kind(namespace.typ())?;
            let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) else {
                match kind {
                    Kinds::USER if spaces.user.is_none() => {
                        let (users, groups) = mappings();
                        let fd = userns::make(&users, &groups).map_err(|e| Error::host(e.to_line()))?;
                        spaces.user = Some(User { fd, users, groups });
                    }
                    Kinds::USER => {}
                    _ => spaces.new = spaces.new.with(kind),
                }
                continue;
            };
            let file = File::open(path).map_err(|e| Error::io(format!("open the namespace {}", path.display()), e))?;
            match kind {
                Kinds::MOUNT => return Err(no_mount_namespace()),
                Kinds::USER if spaces.user.is_some() || is_own(&file)? => {}
                Kinds::USER => {
                    let (users, groups) = mappings();
                    spaces.user = Some(User { fd: file.into(), users, groups });
                }
                _ => spaces.joined.push((kind, file.into())),
            }
        }
        match spaces.new.contains(Kinds::MOUNT) {
            true => Ok(spaces),
            false => Err(no_mount_namespace()),
        }
    }

    /// Whether the container has a namespace of this kind that is not the host's.
    pub(super) fn has(&self, kind: Kinds) -> bool {
        self.new.contains(kind) || self.joined.iter().any(|(joined, _)| *joined == kind)
    }

    /// Whether the init is the first process of a PID namespace.
    pub(super) fn makes_pid(&self) -> bool {
        self.new.contains(Kinds::PID)
    }

    /// Lets children of this process be in the PID namespace that is joined, while `work` runs. A child that is cloned
    /// in it does not come back here.
    pub(super) fn with_pid<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let Some((_, fd)) = self.joined.iter().find(|(kind, _)| *kind == Kinds::PID) else { return work() };
        let own = File::open("/proc/self/ns/pid").map_err(|e| Error::io("open the own PID namespace", e))?;
        join(fd, Kinds::PID)?;
        let done = work();
        let back = join(&own.into(), Kinds::PID);
        done.and_then(|value| back.map(|()| value))
    }

    /// Joins all but the PID namespace, with the host's rights, and the user namespace last: as its root.
    pub(super) fn join(&self) -> Result<(), Error> {
        for (kind, fd) in self.joined.iter().filter(|(kind, _)| *kind != Kinds::PID) {
            join(fd, *kind)?;
        }
        let Some(user) = &self.user else { return Ok(()) };
        join(&user.fd, Kinds::USER)?;
        // Until now it is the host's root still, which is nobody in there.
        identity::change(0, 0, &[])
            .map_err(|e| Error::host(format!("become the user namespace's root: {}", e.to_line())))
    }

    /// Makes all but the PID namespace; they belong to the user namespace that was joined.
    pub(super) fn make(&self) -> Result<(), Error> {
        let kinds = self.new.without(Kinds::PID);
        sys::unshare(kinds.bits()).map_err(|e| Error::io(format!("make namespaces ({kinds})"), e))
    }
}

fn no_mount_namespace() -> Error {
    Error::host("config.json has no mount namespace of its own: mounts would appear on the host")
}

fn kind(kind: LinuxNamespaceType) -> Result<Kinds, Error> {
    Ok(match kind {
        LinuxNamespaceType::Mount => Kinds::MOUNT,
        LinuxNamespaceType::Cgroup => Kinds::CGROUP,
        LinuxNamespaceType::Uts => Kinds::UTS,
        LinuxNamespaceType::Ipc => Kinds::IPC,
        LinuxNamespaceType::User => Kinds::USER,
        LinuxNamespaceType::Pid => Kinds::PID,
        LinuxNamespaceType::Network => Kinds::NET,
        LinuxNamespaceType::Time => return Err(Error::host("time namespaces are not supported")),
    })
}

/// The kernel checks that it is one of that kind.
fn join(fd: &OwnedFd, kind: Kinds) -> Result<(), Error> {
    let typ = match kind {
        Kinds::CGROUP => LinkNameSpaceType::ControlGroup,
        Kinds::UTS => LinkNameSpaceType::HostNameAndNISDomainName,
        Kinds::IPC => LinkNameSpaceType::InterProcessCommunication,
        Kinds::USER => LinkNameSpaceType::User,
        Kinds::PID => LinkNameSpaceType::ProcessID,
        _ => LinkNameSpaceType::Network,
    };
    move_into_link_name_space(fd.as_fd(), Some(typ)).map_err(|e| Error::io(format!("join a namespace ({kind})"), e))
}

/// Whether it is the user namespace of this process: joining that one is refused.
fn is_own(fd: &File) -> Result<bool, Error> {
    let failed = |e: rustix::io::Errno| Error::io("look at a user namespace", e);
    let (theirs, own) =
        (fstat(fd).map_err(failed)?, statat(CWD, "/proc/self/ns/user", AtFlags::empty()).map_err(failed)?);
    Ok((theirs.st_dev, theirs.st_ino) == (own.st_dev, own.st_ino))
}
