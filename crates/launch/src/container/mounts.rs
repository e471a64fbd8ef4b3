//! The mounts of a container, prepared on the host: sources of bind mounts are cloned here, in the host's mount
//! namespace and with the host's rights, and get all their attributes before the container sees them. Only a clone made
//! here is a peer of the host's mount, without which `rslave` and `rshared` mean nothing; only here may it be
//! id-mapped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cricket_process::detached::{self, Change, Flags};
use cricket_process::mounts::Propagation;
use cricket_process::userns::{self, Range};
use cricket_wire::launch_config::LaunchCgroup;
use libcontainer::oci_spec::runtime::{LinuxIdMapping, Mount as SpecMount};

use super::inside::{self, Kind};
use super::options::Options;
use super::spaces::User;
use crate::error::Error;

/// Magic number of procfs (linux/magic.h).
pub(super) const PROC: u64 = 0x9fa0;

/// One mount, to be made by the init.
#[derive(Debug)]
pub(super) struct Mount {
    /// In the container.
    pub(super) target: PathBuf,
    pub(super) what: What,
    /// How mount events travel when it is not what `what` has already; for all below too.
    pub(super) propagation: Option<(Propagation, bool)>,
}

#[derive(Debug)]
pub(super) enum What {
    /// A detached mount that only needs its place.
    Tree { tree: OwnedFd, kind: Kind },
    /// A new file system, of the init's namespaces.
    New(FileSystem),
    /// v1 hierarchies below a tmpfs.
    Cgroups { directories: Vec<(String, OwnedFd)>, read_only: bool },
}

/// A file system that the init makes.
#[derive(Debug)]
pub(super) struct FileSystem {
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) data: Vec<(String, Option<String>)>,
    pub(super) flags: Flags,
    /// The SELinux label of its root, where the file system belongs to a namespace and takes no option for it.
    pub(super) label: Option<String>,
    /// What of the host's is shown to a user namespace that may not make it, because it belongs to a namespace of the
    /// host's.
    pub(super) instead: Option<PathBuf>,
}

/// What preparing mounts takes from elsewhere.
pub(super) struct Sources<'a> {
    pub(super) cgroup: &'a LaunchCgroup,
    pub(super) user: Option<&'a User>,
    pub(super) label: Option<&'a str>,
    pub(super) bundle: &'a Path,
}

impl Sources<'_> {
    pub(super) fn mount(&self, mount: &SpecMount) -> Result<Mount, Error> {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let target = mount.destination().clone();
        if !target.is_absolute() {
            return Err(Error::content(format!("the mount's destination {} is not absolute", target.display())));
        }
        let kind = mount.typ().as_deref().unwrap_or_default();
        if kind == "bind" || options.bind.is_some() {
            return self.bind(mount, &options);
        }
        let propagation = options.propagation;
        if kind == "cgroup" && !self.cgroup.v1_directories.is_empty() {
            return Ok(Mount { target, what: self.cgroups(&options)?, propagation });
        }
        // Also what is called `cgroup` on a host that has v2 alone.
        let kind = if kind == "cgroup" { "cgroup2" } else { kind };
        if kind.is_empty() {
            return Err(Error::content(format!("the mount at {} has no type", target.display())));
        }
        let mut data = options.data.clone();
        let unlabelled = ["proc", "sysfs", "cgroup2", "mqueue"].contains(&kind);
        data.extend(self.label.filter(|_| !unlabelled).map(|label| ("context".to_owned(), Some(label.to_owned()))));
        let source = mount.source().as_ref().and_then(|s| s.to_str()).unwrap_or(kind).to_owned();
        let instead = match kind {
            "sysfs" => Some("/sys".into()),
            "mqueue" => Some("/dev/mqueue".into()),
            "cgroup2" => self.cgroup.v2_directory.clone(),
            _ => None,
        };
        let flags = options.flags();
        let label = self.label.filter(|_| kind == "mqueue").map(str::to_owned);
        let what = What::New(FileSystem { kind: kind.to_owned(), source, data, flags, label, instead });
        Ok(Mount { target, what, propagation })
    }

    fn bind(&self, mount: &SpecMount, options: &Options) -> Result<Mount, Error> {
        let target = mount.destination().clone();
        let source = mount.source().as_ref();
        let source = source.ok_or_else(|| Error::host(format!("the mount at {} has no source", target.display())))?;
        // Joined, because a relative one is relative to the bundle.
        let source = self.bundle.join(source);
        let failed = |e: cricket_process::Error| {
            Error::host(format!("mount {} at {}: {}", source.display(), target.display(), e.to_line()))
        };
        let place = detached::open_place(&source).map_err(failed)?;
        let kind = inside::kind(&place).map_err(|e| Error::io(format!("look at {}", source.display()), e))?;
        let is_proc = detached::file_system(&place).map_err(failed)? == PROC;
        if target == Path::new("/proc") && !is_proc {
            return Err(Error::content(format!("{} is no procfs and cannot be mounted at /proc", source.display())));
        }
        let tree = detached::clone_at(&place, options.bind.unwrap_or(false)).map_err(failed)?;
        let (propagation, all) = options.propagation.unwrap_or((Propagation::Private, true));
        Change { propagation: Some(propagation), ..Default::default() }.apply(&tree, all).map_err(failed)?;
        self.map_ids(mount, options, &tree)?;
        options.all().apply(&tree, true).map_err(|e| match e.errno() {
            Some(libc::ENOSYS | libc::EINVAL) if options.set_all.contains(Flags::READ_ONLY) => Error::host(format!(
                "mount {} recursively read-only: the kernel cannot ({})",
                source.display(),
                e.to_line()
            )),
            _ => failed(e),
        })?;
        options.own().apply(&tree, false).map_err(failed)?;
        Ok(Mount { target, what: What::Tree { tree, kind }, propagation: None })
    }

    /// Maps the IDs of a volume: by its own mappings, or as the container's user namespace does.
    fn map_ids(&self, mount: &SpecMount, options: &Options, tree: &OwnedFd) -> Result<(), Error> {
        let own = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
        let at = mount.destination().display();
        let made;
        let map: BorrowedFd<'_> = match (own, options.id_map, self.user) {
            ((Some(users @ [_, ..]), Some(groups @ [_, ..])), ..) => {
                let (users, groups) = (ranges(users), ranges(groups));
                match self.user.filter(|user| user.maps(&users, &groups)) {
                    Some(user) => user.fd.as_fd(),
                    None => {
                        let failed = |e: cricket_process::Error| Error::host(format!("map {at}: {}", e.to_line()));
                        made = userns::make(&users, &groups).map_err(failed)?;
                        made.as_fd()
                    }
                }
            }
            ((None | Some([]), None | Some([])), None, _) => return Ok(()),
            ((None | Some([]), None | Some([])), Some(_), Some(user)) => user.fd.as_fd(),
            ((None | Some([]), None | Some([])), Some(_), None) => {
                return Err(Error::host(format!("the IDs of {at} are to be mapped, but nothing says how")));
            }
            _ => return Err(Error::host(format!("{at} has mappings of users or of groups, not of both"))),
        };
        // A mapping without a word about what is below holds for the mount alone (runtime-spec: `idmap`, `ridmap`).
        let all = options.id_map.unwrap_or(false);
        Change { id_map: Some(map), ..Default::default() }.apply(tree, all).map_err(|e| {
            Error::host(format!("map the IDs of {at} (its file system has to support that): {}", e.to_line()))
        })
    }

    /// The container's directory in each hierarchy. A mount of the hierarchy itself would show all of the host's and,
    /// writable, let a container lift its own limits.
    fn cgroups(&self, options: &Options) -> Result<What, Error> {
        let mut directories = Vec::with_capacity(self.cgroup.v1_directories.len());
        for own in &self.cgroup.v1_directories {
            let failed =
                |e: cricket_process::Error| Error::host(format!("show {}: {}", own.directory.display(), e.to_line()));
            let place = detached::open_place(&own.directory).map_err(failed)?;
            let tree = detached::clone_at(&place, false).map_err(failed)?;
            let set = options.flags().without(Flags::STRICT_ATIME);
            let propagation = Some(Propagation::Private);
            Change { set, propagation, ..Default::default() }.apply(&tree, false).map_err(failed)?;
            directories.push((own.name.clone(), tree));
        }
        Ok(What::Cgroups { directories, read_only: options.is_read_only() })
    }
}

/// Mappings of a specification.
pub(super) fn ranges(mappings: &[LinuxIdMapping]) -> Vec<Range> {
    let range = |m: &LinuxIdMapping| Range { inside: m.container_id(), outside: m.host_id(), length: m.size() };
    mappings.iter().map(range).collect()
}
