//! Device nodes, and what the devices controller says of them.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use cricket_oci::oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount, Spec};

use super::{Edited, Host, clean, in_user_namespace, linux};
use crate::error::Refusal;
use crate::model::DeviceNode;

/// What a node is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A named pipe; it has no numbers.
    Fifo,
}

/// A node of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostNode {
    /// Its kind.
    pub kind: NodeKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits (0o7777 at most).
    pub mode: u32,
}

/// The host's nodes. The real ones are [`LiveNodes`]; tests have others.
pub trait Nodes {
    /// The node that `path` leads to, links followed; `None` for anything else that exists.
    ///
    /// # Errors
    /// When there is nothing, or it cannot be looked at.
    fn node(&self, path: &Path) -> io::Result<Option<HostNode>>;
}

/// This host's nodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveNodes;

impl Nodes for LiveNodes {
    fn node(&self, path: &Path) -> io::Result<Option<HostNode>> {
        let meta = std::fs::metadata(path)?;
        let kind = match meta.file_type() {
            t if t.is_block_device() => NodeKind::Block,
            t if t.is_char_device() => NodeKind::Char,
            t if t.is_fifo() => NodeKind::Fifo,
            _ => return Ok(None),
        };
        let (major, minor) = match kind {
            NodeKind::Fifo => (0, 0),
            _ => (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())),
        };
        Ok(Some(HostNode { kind, major, minor, mode: meta.mode() & 0o7777 }))
    }
}

pub(super) fn apply(spec: &mut Spec, asked: &[DeviceNode], host: &Host<'_>) -> Edited {
    if asked.is_empty() {
        return Ok(());
    }
    let bound = in_user_namespace(spec);
    let user = spec.process().as_ref().map(|process| process.user().clone()).unwrap_or_default();
    let owner = |id: u32| (id != 0).then_some(id);
    let mut linux = linux(spec);
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for device in asked {
        let mut node = resolve(device, host.nodes)?;
        if node.uid().is_none() {
            node.set_uid(owner(user.uid()));
        }
        if node.gid().is_none() {
            node.set_gid(owner(user.gid()));
        }
        allow(&mut linux, device, &node);
        let source = source(device);
        if bound {
            check_bound(&node, source, host.nodes)?;
        }
        let mut nodes = linux.devices().clone().unwrap_or_default();
        nodes.retain(|other| other.path() != node.path());
        mounts.retain(|other| other.destination() != node.path());
        // Runtimes take the host's node of the same path there.
        match bound && Path::new(source) != node.path() {
            true => mounts.push(bind(source, &node)),
            false => nodes.push(node),
        }
        linux.set_devices(Some(nodes));
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    spec.set_mounts(Some(mounts)).set_linux(Some(linux));
    Ok(())
}

fn source(device: &DeviceNode) -> &str {
    if device.host_path.is_empty() { &device.path } else { &device.host_path }
}

/// The node with what the file leaves to the host. A file that gives type and number needs no node on the host.
fn resolve(device: &DeviceNode, nodes: &dyn Nodes) -> Result<LinuxDevice, Refusal> {
    let path = source(device);
    let complete = device.kind == "p" || (!device.kind.is_empty() && device.major != 0);
    let found = match nodes.node(Path::new(path)) {
        Ok(Some(found)) => Some(found),
        _ if complete => None,
        Ok(None) => return Err(Refusal::Host(format!("{path} of the host is no device"))),
        Err(e) => return Err(Refusal::Host(format!("look at the host's {path}: {e}"))),
    };
    let mut node = LinuxDevice::default();
    node.set_path(clean(&device.path))
        .set_typ(LinuxDeviceType::C)
        .set_major(device.major)
        .set_minor(device.minor)
        .set_file_mode(device.file_mode.or(found.map(|found| found.mode)))
        .set_uid(device.uid)
        .set_gid(device.gid);
    match device.kind.as_str() {
        "b" => node.set_typ(LinuxDeviceType::B),
        "p" => node.set_typ(LinuxDeviceType::P),
        _ => &mut node,
    };
    let Some(found) = found.filter(|_| !complete) else { return Ok(node) };
    if !device.kind.is_empty() && typ(found.kind) != node.typ() {
        return Err(Refusal::Host(format!("the host's {path} is not of the type {:?}", device.kind)));
    }
    node.set_typ(typ(found.kind));
    if device.major == 0 {
        node.set_major(found.major.into()).set_minor(found.minor.into());
    }
    Ok(node)
}

fn typ(kind: NodeKind) -> LinuxDeviceType {
    match kind {
        NodeKind::Block => LinuxDeviceType::B,
        NodeKind::Char => LinuxDeviceType::C,
        NodeKind::Fifo => LinuxDeviceType::P,
    }
}

/// A container in a user namespace can make no node: it gets the host's, which has to be that device.
fn check_bound(node: &LinuxDevice, source: &str, nodes: &dyn Nodes) -> Edited {
    let found = nodes.node(Path::new(source)).map_err(|e| {
        Refusal::Host(format!("a pod with a user namespace gets the host's nodes, look at the host's {source}: {e}"))
    })?;
    let same = |found: HostNode| {
        let numbers = (i64::from(found.major), i64::from(found.minor)) == (node.major(), node.minor());
        typ(found.kind) == node.typ() && (numbers || found.kind == NodeKind::Fifo)
    };
    match found.is_some_and(same) {
        true => Ok(()),
        false => Err(Refusal::Host(format!(
            "a pod with a user namespace gets the host's nodes, and the host's {source} is another device"
        ))),
    }
}

fn bind(source: &str, node: &LinuxDevice) -> Mount {
    let options = ["bind", "rprivate", "nosuid", "noexec", "rw"].map(str::to_owned).to_vec();
    let mut mount = Mount::default();
    mount
        .set_destination(node.path().clone())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options));
    mount
}

fn allow(linux: &mut Linux, device: &DeviceNode, node: &LinuxDevice) {
    let access: String = match device.permissions.as_str() {
        "" => "rwm".to_owned(),
        "none" => String::new(),
        some => "rwm".chars().filter(|letter| some.contains(*letter)).collect(),
    };
    if node.typ() == LinuxDeviceType::P || access.is_empty() {
        return;
    }
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(node.typ()))
        .set_major(Some(node.major()))
        .set_minor(Some(node.minor()))
        .set_access(Some(access));
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    rules.push(rule);
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
}
