//! Which cgroup hierarchies the host has mounted, and where.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which generation carries the controllers. A hybrid host counts as v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Version {
    /// One hierarchy for each controller (cgroups(7), "cgroups version 1"); with or without a unified one beside.
    V1,
    /// The unified hierarchy alone (cgroups(7), "cgroups version 2").
    V2,
}

/// What kind of hierarchy is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// v1, with the controllers that are mounted together here (none for a named hierarchy).
    V1(Vec<String>),
    /// v2.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The mount point: the directory of the root cgroup.
    pub mount: PathBuf,
    /// Which kind.
    pub kind: Kind,
}

/// The host's hierarchies, read once at start. Cheap to clone; serialisable, so that a process may be given them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchies(Arc<Inner>);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Inner {
    version: Version,
    list: Vec<Hierarchy>,
}

/// Controllers whose presence on a v1 mount makes the host a v1 host.
const MAJOR: [&str; 2] = ["memory", "cpu"];
/// Options of a v1 mount that are no controllers.
const NOT_CONTROLLERS: [&str; 10] =
    ["rw", "ro", "xattr", "clone_children", "noprefix", "all", "none", "cpuset_v2_mode", "favordynmods", "relatime"];

impl Hierarchies {
    /// Finds the hierarchies in `/proc/mounts`.
    pub fn detect() -> Result<Self> {
        let path = Path::new("/proc/mounts");
        let mounts = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        Self::from_mounts(&mounts)
    }

    /// The hierarchies in a table in the format of `/proc/mounts` (proc_pid_mounts(5)).
    pub fn from_mounts(table: &str) -> Result<Self> {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut v2: Option<PathBuf> = None;
        for line in table.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(dir), Some(fstype), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let mount = PathBuf::from(unescape(dir));
            match fstype {
                "cgroup2" if v2.is_none() => v2 = Some(mount),
                "cgroup" => {
                    let kind = Kind::V1(controllers(options));
                    // A hierarchy mounted again elsewhere is the same one.
                    if !v1.iter().any(|h| h.kind == kind && (kind != Kind::V1(vec![]) || h.mount == mount)) {
                        v1.push(Hierarchy { mount, kind });
                    }
                }
                _ => {}
            }
        }
        let is_v1 = v1.iter().any(|h| MAJOR.iter().any(|c| h.has(c)));
        match (is_v1, v2) {
            (true, v2) => {
                v1.extend(v2.map(|mount| Hierarchy { mount, kind: Kind::V2 }));
                Ok(Self::new(Version::V1, v1))
            }
            (false, Some(mount)) => Ok(Self::new(Version::V2, vec![Hierarchy { mount, kind: Kind::V2 }])),
            (false, None) => Err(Error::NoHierarchy),
        }
    }

    /// Hierarchies with the given mount points; for tests and for hosts with unusual layouts.
    pub fn new(version: Version, list: Vec<Hierarchy>) -> Self {
        Self(Arc::new(Inner { version, list }))
    }

    /// Which generation carries the controllers.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Every hierarchy that a process has to join.
    pub fn all(&self) -> &[Hierarchy] {
        &self.0.list
    }

    /// The v1 hierarchy of a controller.
    pub(crate) fn v1(&self, controller: &str) -> Option<&Hierarchy> {
        self.0.list.iter().find(|h| h.has(controller))
    }

    /// The unified hierarchy: the only one on v2, the one beside the others on a hybrid host.
    pub(crate) fn unified(&self) -> Option<&Hierarchy> {
        self.0.list.iter().find(|h| h.kind == Kind::V2)
    }
}

impl Hierarchy {
    /// Whether this is the v1 hierarchy of the controller.
    pub fn has(&self, controller: &str) -> bool {
        matches!(&self.kind, Kind::V1(list) if list.iter().any(|c| c == controller))
    }
}

fn controllers(options: &str) -> Vec<String> {
    let known = |o: &&str| !o.contains('=') && !NOT_CONTROLLERS.contains(o) && !o.starts_with("no");
    options.split(',').filter(known).map(str::to_owned).collect()
}

/// Undoes the octal escapes of `/proc/mounts`.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |s, (from, to)| s.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,nodev,noexec,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /mnt/again cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,release_agent=/lib/systemd/agent,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";

    #[test]
    fn hybrid_is_v1_with_every_hierarchy() {
        let h = Hierarchies::from_mounts(HYBRID).expect("valid");
        assert_eq!(h.version(), Version::V1);
        let mounts: Vec<_> = h.all().iter().map(|h| h.mount.to_str().expect("utf-8")).collect();
        let want =
            ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
        assert_eq!(mounts, want);
        assert_eq!(h.v1("cpuacct").map(|h| h.mount.as_path()), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(h.all()[2].kind, Kind::V1(vec![]));
    }

    #[test]
    fn unified_alone_is_v2_and_nothing_is_an_error() {
        let table = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate,memory_recursiveprot 0 0\n";
        let h = Hierarchies::from_mounts(table).expect("valid");
        assert_eq!((h.version(), h.all().len()), (Version::V2, 1));
        let named = "cgroup /s cgroup rw,name=systemd 0 0\ncgroup2 /u cgroup2 rw 0 0\n";
        assert_eq!(Hierarchies::from_mounts(named).expect("valid").version(), Version::V2);
        assert!(matches!(Hierarchies::from_mounts("proc /proc proc rw 0 0\n"), Err(Error::NoHierarchy)));
    }

    #[test]
    fn escaped_mount_points() {
        let h = Hierarchies::from_mounts("cgroup2 /a\\040b cgroup2 rw 0 0\n").expect("valid");
        assert_eq!(h.all()[0].mount, Path::new("/a b"));
    }
}
