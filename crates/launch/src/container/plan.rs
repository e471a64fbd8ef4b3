//! Everything a container's init needs, checked and opened on the host before there is an init: what is wrong with an
//! order is found where nothing has to be undone.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cricket_process::detached::{self, Change};
use cricket_process::mounts::Propagation;
use cricket_process::namespaces::Kinds;
use cricket_process::rooted;
use cricket_wire::exec_config::TerminalSize;
use cricket_wire::launch_config::YoukiConfig;
use libcontainer::oci_spec::runtime::{Linux, Spec};

use super::dev::Node;
use super::groups::Groups;
use super::hide::Hidden;
use super::hooks::Hooks;
use super::mounts::{Mount, Sources, What};
use super::process::Process;
use super::spaces::Spaces;
use crate::error::Error;

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) groups: Groups,
    pub(super) spaces: Spaces,
    /// Where the host has the root file system.
    pub(super) rootfs: PathBuf,
    /// It, detached.
    pub(super) root: OwnedFd,
    pub(super) final_propagation: Option<Propagation>,
    pub(super) read_only: bool,
    pub(super) mounts: Vec<Mount>,
    /// Devices to make; `None` where `/dev` is the host's.
    pub(super) nodes: Option<Vec<Node>>,
    pub(super) hidden: Hidden,
    pub(super) hostname: Option<String>,
    pub(super) domainname: Option<String>,
    pub(super) sysctls: Vec<(String, String)>,
    /// A terminal is made, of this size if it is known.
    pub(super) terminal: Option<Option<TerminalSize>>,
    pub(super) hooks: Hooks,
    pub(super) process: Process,
}

impl Plan {
    pub(super) fn make(spec: &Spec, config: &YoukiConfig) -> Result<Self, Error> {
        let linux = spec.linux().as_ref().ok_or_else(|| Error::host("config.json has no linux section"))?;
        refuse_unsupported(linux)?;
        let process = Process::of(spec, config)?;
        let spaces = Spaces::open(linux, config.user_namespace_fd)?;
        let rootfs = find_rootfs(spec, &config.bundle)?;
        let (root, final_propagation) = clone_root(&rootfs, linux, config, &spaces)?;
        let label = linux.mount_label().as_deref().filter(|label| !label.is_empty());
        let sources = Sources { cgroup: &config.cgroup, user: spaces.user.as_ref(), label, bundle: &config.bundle };
        let mounts = spec.mounts().iter().flatten().map(|m| sources.mount(m)).collect::<Result<Vec<_>, _>>()?;
        let is_hosts = |m: &Mount| m.target == Path::new("/dev") && matches!(m.what, What::Tree { .. });
        let nodes = match mounts.iter().any(is_hosts) {
            true => None,
            false => Some(Node::all(linux.devices().as_deref().unwrap_or_default(), spaces.user.is_some())?),
        };
        let names = Names::of(spec, linux, &spaces)?;
        Ok(Self {
            groups: Groups::open(&config.cgroup)?,
            hidden: hidden(linux, &mounts),
            rootfs,
            root,
            final_propagation,
            read_only: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            mounts,
            nodes,
            hostname: names.host,
            domainname: names.domain,
            sysctls: names.sysctls,
            terminal: config.terminal.then(|| size(spec)),
            hooks: Hooks::of(spec, &config.id, &config.bundle),
            process,
            spaces,
        })
    }
}

/// What the specification may ask for and nobody here does: better not at all than without it.
fn refuse_unsupported(linux: &Linux) -> Result<(), Error> {
    let asked = [
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.memory_policy().is_some(), "linux.memoryPolicy"),
        (linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()), "linux.netDevices"),
        (linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()), "linux.timeOffsets"),
    ];
    match asked.iter().find(|(is, _)| *is) {
        Some((_, name)) => Err(Error::host(format!("{name} of config.json is not supported"))),
        None => Ok(()),
    }
}

fn find_rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf, Error> {
    let root = spec.root().as_ref().ok_or_else(|| Error::host("config.json has no root"))?;
    let path = bundle.join(root.path());
    let path = fs::canonicalize(&path).map_err(|e| Error::io(format!("resolve {}", path.display()), e))?;
    // Mounts on these must be what they seem, also to those who look from outside (CVE-2025-54867 and its like).
    rooted::check_plain_dirs(&path, &["dev", "proc", "sys"]).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotADirectory => {
            Error::content(format!("the image's root file system: {e}; nothing can be mounted there safely"))
        }
        _ => Error::io(format!("look at {}", path.display()), e),
    })?;
    Ok(path)
}

/// A copy of its mount, which what is mounted in the container does not leave: `shared` makes it shared with what is
/// cloned from the container, not with the host. Returns how mount events travel in the end, if that is more.
fn clone_root(
    rootfs: &Path,
    linux: &Linux,
    config: &YoukiConfig,
    spaces: &Spaces,
) -> Result<(OwnedFd, Option<Propagation>), Error> {
    let failed = |e: cricket_process::Error| Error::host(format!("clone {}: {}", rootfs.display(), e.to_line()));
    let (first, last) = match linux.rootfs_propagation().as_deref() {
        None | Some("" | "slave" | "rslave") => (Propagation::Slave, None),
        Some("private" | "rprivate") => (Propagation::Private, None),
        Some("shared" | "rshared") => (Propagation::Private, Some(Propagation::Shared)),
        Some("unbindable" | "runbindable") => (Propagation::Private, Some(Propagation::Unbindable)),
        Some(other) => return Err(Error::host(format!("linux.rootfsPropagation is {other:?}"))),
    };
    let place = detached::open_place(rootfs).map_err(failed)?;
    let tree = detached::clone_at(place, true).map_err(failed)?;
    Change { propagation: Some(first), ..Default::default() }.apply(&tree, true).map_err(failed)?;
    if config.map_root {
        let user = spaces.user.as_ref();
        let user = user.ok_or_else(|| Error::host("the root's IDs are to be mapped without a user namespace"))?;
        Change { id_map: Some(user.fd.as_fd()), ..Default::default() }.apply(&tree, false).map_err(failed)?;
    }
    Ok((tree, last))
}

fn hidden(linux: &Linux, mounts: &[Mount]) -> Hidden {
    let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect();
    let has = |path: &str, kind: &str| {
        mounts.iter().any(|m| match &m.what {
            What::New(new) => m.target == Path::new(path) && new.kind == kind,
            _ => false,
        })
    };
    Hidden {
        masked: paths(linux.masked_paths()),
        read_only: paths(linux.readonly_paths()),
        proc: has("/proc", "proc"),
        sys: has("/sys", "sysfs"),
    }
}

fn size(spec: &Spec) -> Option<TerminalSize> {
    let size = spec.process().as_ref()?.console_size()?;
    let characters = |n: u64| u16::try_from(n).ok();
    Some(TerminalSize { rows: characters(size.height())?, columns: characters(size.width())? })
}

/// What is set in namespaces; never in one of the host's.
struct Names {
    host: Option<String>,
    domain: Option<String>,
    sysctls: Vec<(String, String)>,
}

/// Parameters of the IPC namespace (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

impl Names {
    fn of(spec: &Spec, linux: &Linux, spaces: &Spaces) -> Result<Self, Error> {
        let own_uts = spaces.has(Kinds::UTS);
        let name = |name: &Option<String>, what: &str| match name.clone().filter(|name| !name.is_empty()) {
            Some(_) if !own_uts => Err(Error::host(format!("{what} is given without a UTS namespace"))),
            name => Ok(name),
        };
        let mut sysctls = Vec::new();
        for (name, value) in linux.sysctl().iter().flatten() {
            let dotted = if name.contains('.') { name.clone() } else { name.replace('/', ".") };
            let own = match dotted.as_str() {
                d if d.starts_with("net.") => spaces.has(Kinds::NET),
                d if d.starts_with("fs.mqueue.") || IPC.contains(&d) => spaces.has(Kinds::IPC),
                "kernel.domainname" => own_uts,
                d if d.starts_with("user.") => spaces.user.is_some(),
                _ => false,
            };
            if !own {
                return Err(Error::host(format!("the kernel parameter {name} is not one of the container's own")));
            }
            sysctls.push((name.clone(), value.clone()));
        }
        Ok(Self { host: name(spec.hostname(), "hostname")?, domain: name(spec.domainname(), "domainname")?, sysctls })
    }
}
