//! What this host permits, found once at start: the facts that specifications are made with.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cricket_cgroup::{Hierarchies, Hierarchy, Kind, Version};
use cricket_cri_api::v1;
use cricket_oci::oci_spec::runtime::{Capability, PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use cricket_oci::{DeviceKind, HostDevice, HostFacts, Hugetlb, MountFacts, PathKind, Propagation};
use rustix::process::Resource;

use crate::error::{Error, Result};

/// The host and this boot of it.
pub struct Host {
    /// For the specifications.
    pub facts: HostFacts,
    /// Its name.
    pub name: String,
    /// Identifies the boot; records of another boot speak of processes that are gone.
    pub boot_id: String,
}

const CAP_SYS_RESOURCE: u32 = 24;

/// Capability numbers in order (capability.h); the position is the number.
const CAPABILITIES: [Capability; 41] = {
    use Capability::*;
    [
        Chown,
        DacOverride,
        DacReadSearch,
        Fowner,
        Fsetid,
        Kill,
        Setgid,
        Setuid,
        Setpcap,
        LinuxImmutable,
        NetBindService,
        NetBroadcast,
        NetAdmin,
        NetRaw,
        IpcLock,
        IpcOwner,
        SysModule,
        SysRawio,
        SysChroot,
        SysPtrace,
        SysPacct,
        SysAdmin,
        SysBoot,
        SysNice,
        SysResource,
        SysTime,
        SysTtyConfig,
        Mknod,
        Lease,
        AuditWrite,
        AuditControl,
        Setfcap,
        MacOverride,
        MacAdmin,
        Syslog,
        WakeAlarm,
        BlockSuspend,
        AuditRead,
        Perfmon,
        Bpf,
        CheckpointRestore,
    ]
};

impl Host {
    /// The facts for a container; a privileged one gets the devices that there are now.
    pub(crate) fn facts_for(&self, config: &v1::ContainerConfig) -> Cow<'_, HostFacts> {
        let security = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        if security.is_none_or(|s| !s.privileged) {
            return Cow::Borrowed(&self.facts);
        }
        Cow::Owned(HostFacts { devices: devices_below(Path::new("/dev")), ..self.facts.clone() })
    }

    /// Looks at the host.
    ///
    /// # Errors
    /// When `/proc` does not say what every Linux says.
    pub fn probe(hierarchies: &Hierarchies) -> Result<Self> {
        let status = read("/proc/self/status")?;
        let mask = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("0").trim_start_matches(':').trim();
            u64::from_str_radix(line, 16).unwrap_or(0)
        };
        let (bounding, effective) = (mask("CapBnd"), mask("CapEff"));
        let may_raise = effective & (1 << CAP_SYS_RESOURCE) != 0;
        let nr_open = read("/proc/sys/fs/nr_open").ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        let release = read("/proc/sys/kernel/osrelease")?;
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
        let facts = HostFacts {
            cgroup_v2: hierarchies.version() == Version::V2,
            devices: devices_below(Path::new("/dev")),
            bounding: CAPABILITIES
                .iter()
                .enumerate()
                .filter(|(n, _)| bounding & (1 << n) != 0)
                .map(|(_, c)| *c)
                .collect(),
            oom_score_adj: read("/proc/self/oom_score_adj")?.trim().parse().unwrap_or(0),
            may_lower_oom_score: may_raise,
            rlimits: rlimits(),
            may_raise_rlimits: may_raise,
            nr_open,
            seccomp_supported: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
            apparmor_enabled: read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y')),
            apparmor_default: None,
            mount_attributes: cricket_process::KernelFeatures::probe().mount_setattr,
            hugepage_sizes: hugepage_sizes(),
            hugetlb: hugetlb(hierarchies),
            swap_accounting: swap_accounting(hierarchies),
            kernel: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
        };
        Ok(Self {
            facts,
            name: read("/proc/sys/kernel/hostname")?.trim().to_owned(),
            boot_id: read("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        })
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::internal(format_args!("read {path}"), &e))
}

fn rlimits() -> Vec<PosixRlimit> {
    use PosixRlimitType as T;
    let all = [
        (T::RlimitAs, Resource::As),
        (T::RlimitCore, Resource::Core),
        (T::RlimitCpu, Resource::Cpu),
        (T::RlimitData, Resource::Data),
        (T::RlimitFsize, Resource::Fsize),
        (T::RlimitLocks, Resource::Locks),
        (T::RlimitMemlock, Resource::Memlock),
        (T::RlimitMsgqueue, Resource::Msgqueue),
        (T::RlimitNice, Resource::Nice),
        (T::RlimitNofile, Resource::Nofile),
        (T::RlimitNproc, Resource::Nproc),
        (T::RlimitRss, Resource::Rss),
        (T::RlimitRtprio, Resource::Rtprio),
        (T::RlimitRttime, Resource::Rttime),
        (T::RlimitSigpending, Resource::Sigpending),
        (T::RlimitStack, Resource::Stack),
    ];
    let infinity = u64::MAX;
    let one = |(typ, resource)| {
        let limit = rustix::process::getrlimit(resource);
        PosixRlimitBuilder::default()
            .typ(typ)
            .soft(limit.current.unwrap_or(infinity))
            .hard(limit.maximum.unwrap_or(infinity))
            .build()
            .ok()
    };
    all.into_iter().filter_map(one).collect()
}

/// Whether the controller is there; what its absence means is the configuration's to say.
fn hugetlb(hierarchies: &Hierarchies) -> Hugetlb {
    let there = hierarchies.all().iter().any(|hierarchy| match &hierarchy.kind {
        Kind::V1(controllers) => controllers.iter().any(|c| c == "hugetlb"),
        Kind::V2 => {
            let available = fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).unwrap_or_default();
            available.split_whitespace().any(|c| c == "hugetlb")
        }
    });
    if there { Hugetlb::Enforced } else { Hugetlb::Missing }
}

/// Sizes as the hugetlb controller spells them (`2MB`).
fn hugepage_sizes() -> Vec<String> {
    let Ok(dir) = fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let size = |name: String| {
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kib {
            k if k >= 1 << 20 => format!("{}GB", k >> 20),
            k if k >= 1 << 10 => format!("{}MB", k >> 10),
            k => format!("{k}KB"),
        })
    };
    dir.flatten().filter_map(|e| size(e.file_name().to_string_lossy().into_owned())).collect()
}

fn swap_accounting(hierarchies: &Hierarchies) -> bool {
    let memory = |h: &&Hierarchy| matches!(&h.kind, Kind::V1(list) if list.iter().any(|c| c == "memory"));
    match hierarchies.all().iter().find(memory) {
        Some(h) => h.mount.join("memory.memsw.limit_in_bytes").exists(),
        None => Path::new("/proc/swaps").exists(),
    }
}

/// Folders of `/dev` that are no devices of the host's.
const NOT_DEVICES: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
/// Most nodes looked at below one directory.
const MOST_DEVICES: usize = 16 * 1024;

/// Every device node at or below `root`; links are not followed.
fn devices_below(root: &Path) -> Vec<HostDevice> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !NOT_DEVICES.iter().any(|n| name == *n) {
                todo.push(path);
            } else if name != "console" {
                found.extend(device(&path, fs::symlink_metadata(&path)));
            }
            if found.len() >= MOST_DEVICES {
                return found;
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn device(path: &Path, meta: std::io::Result<fs::Metadata>) -> Option<HostDevice> {
    let meta = meta.ok()?;
    let kind = match meta.file_type() {
        t if t.is_char_device() => DeviceKind::Char,
        t if t.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    Some(HostDevice {
        path: path.to_owned(),
        kind,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.permissions().mode() & 0o777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

/// Host paths as they are now.
pub(crate) struct LivePaths;

impl MountFacts for LivePaths {
    fn kind(&self, path: &Path) -> PathKind {
        let _at = crate::stage::enter(format!("look at the host's {}", path.display()));
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => PathKind::Directory,
            Ok(_) => PathKind::File,
            // Nothing is made where something may be: the mount will say what is wrong with it (a stale handle, say).
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => PathKind::File,
            Err(_) => PathKind::Missing,
        }
    }

    fn propagation(&self, path: &Path) -> Propagation {
        // Asked for only where a mount wants to share; statmount(2) would answer it for one mount, from Linux 6.8 on.
        let _at = crate::stage::enter(format!("look at the host's {}", path.display()));
        let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return Propagation::Private };
        propagation_in(&text, &path.canonicalize().unwrap_or_else(|_| path.to_owned()))
    }

    fn devices(&self, path: &Path) -> Vec<HostDevice> {
        let _at = crate::stage::enter(format!("look at the host's {}", path.display()));
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => devices_below(path),
            meta => device(path, meta).into_iter().collect(),
        }
    }
}

/// How the mount that `path` is in propagates, by a table of proc_pid_mountinfo(5).
pub(crate) fn propagation_in(table: &str, path: &Path) -> Propagation {
    let mut best: Option<(usize, Propagation)> = None;
    for line in table.lines() {
        let mut fields = line.split(' ');
        let Some(at) = fields.nth(4).map(unescape) else { continue };
        if !path.starts_with(&at) || best.is_some_and(|(len, _)| len > at.len()) {
            continue;
        }
        // The mount's options are next, then tags up to a dash.
        let tags: Vec<&str> = fields.skip(1).take_while(|f| *f != "-").collect();
        let kind = match () {
            () if tags.iter().any(|t| t.starts_with("shared:")) => Propagation::Shared,
            () if tags.iter().any(|t| t.starts_with("master:")) => Propagation::Slave,
            () => Propagation::Private,
        };
        best = Some((at.len(), kind));
    }
    best.map_or(Propagation::Private, |(_, kind)| kind)
}

/// Undoes the octal escapes of a mount point.
fn unescape(point: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_null_is_a_device() {
        let all = devices_below(Path::new("/dev"));
        let null = all.iter().find(|d| d.path == Path::new("/dev/null")).expect("/dev/null");
        assert_eq!((null.kind, null.major, null.minor), (DeviceKind::Char, 1, 3));
        assert!(!all.iter().any(|d| d.path.starts_with("/dev/pts")));
    }

    #[test]
    fn the_innermost_mount_says_how_it_propagates() {
        let table = "1 0 0:1 / / rw shared:1 - ext4 a rw\n2 1 0:2 / /mnt/a\\040b rw master:1 - tmpfs a rw\n\
                     3 2 0:3 / /mnt/a\\040b/c rw - tmpfs shared:x rw\n";
        for (path, want) in
            [("/mnt/a", Propagation::Shared), ("/mnt/a b/x", Propagation::Slave), ("/mnt/a b/c", Propagation::Private)]
        {
            assert_eq!(propagation_in(table, Path::new(path)), want, "{path}");
        }
    }

    #[test]
    fn huge_pages_are_limited_by_whichever_hierarchy_has_the_controller() {
        let dir = tempfile::tempdir().expect("tempdir");
        let on =
            |version, kind| hugetlb(&Hierarchies::new(version, vec![Hierarchy { mount: dir.path().to_owned(), kind }]));
        assert_eq!(on(Version::V1, Kind::V1(vec!["memory".into()])), Hugetlb::Missing);
        assert_eq!(on(Version::V1, Kind::V1(vec!["memory".into(), "hugetlb".into()])), Hugetlb::Enforced);
        assert_eq!(on(Version::V2, Kind::V2), Hugetlb::Missing);
        for (controllers, found) in [("cpu io memory", Hugetlb::Missing), ("cpu hugetlb pids", Hugetlb::Enforced)] {
            fs::write(dir.path().join("cgroup.controllers"), controllers).expect("write");
            assert_eq!(on(Version::V2, Kind::V2), found, "{controllers}");
        }
    }

    #[test]
    fn kinds_of_paths() {
        assert_eq!(LivePaths.kind(Path::new("/proc")), PathKind::Directory);
        assert_eq!(LivePaths.kind(Path::new("/dev/null")), PathKind::File);
        assert_eq!(LivePaths.kind(Path::new("/no/such/path")), PathKind::Missing);
        assert_eq!(LivePaths.kind(Path::new("/dev/null/below")), PathKind::Missing);
        // What cannot be looked at is not said to be missing.
        let long = Path::new("/").join("x".repeat(300));
        assert_eq!(LivePaths.kind(&long), PathKind::File);
    }
}
