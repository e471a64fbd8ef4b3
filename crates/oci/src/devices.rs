//! Device nodes and the device rules of the cgroup: everything denied but the standard list and what was asked for.

use std::path::{Path, PathBuf};

use cricket_cri_api::v1;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Error, Result, shown};
use crate::input::{ContainerInput, DeviceKind, HostDevice};
use crate::paths::{check, clean_absolute};

/// More devices than any host has.
const MAX_DEVICES: usize = 16_384;

/// Character devices that every container may use, as major and minor; no minor means all of them:
/// null, zero, full, random, urandom, tty, console, ptmx, and the pseudo-terminals.
const STANDARD: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Nodes to make, and the rules of the devices controller in order.
pub(crate) struct Devices {
    /// `linux.devices`.
    pub nodes: Vec<LinuxDevice>,
    /// `linux.resources.devices`.
    pub rules: Vec<LinuxDeviceCgroup>,
    /// Nodes of the host and where they are mounted: in a user namespace none can be made, and what makes containers
    /// takes the host's from the path that they have in the container.
    pub binds: Vec<(PathBuf, PathBuf)>,
}

/// Who owns the nodes when the handler says that the container's user does.
#[derive(Clone, Copy, Default)]
pub(crate) struct Owner {
    /// `run_as_user`.
    pub uid: Option<u32>,
    /// `run_as_group`.
    pub gid: Option<u32>,
}

pub(crate) fn devices(input: &ContainerInput<'_>, privileged: bool, owner: Owner) -> Result<Devices> {
    if input.config.devices.len() > MAX_DEVICES {
        let actual = input.config.devices.len();
        return Err(Error::TooLarge { field: "devices".into(), actual, limit: MAX_DEVICES });
    }
    let handler = input.handler;
    let all_nodes = privileged && !handler.privileged_without_host_devices;
    let all_rules = privileged && (all_nodes || handler.privileged_without_host_devices_all_devices_allowed);
    let rules = vec![rule(all_rules, None, None, None, "rwm")];
    let mut out = Devices { nodes: Vec::new(), rules, binds: Vec::new() };
    if !all_rules {
        // Making a node is allowed (CAP_MKNOD permitting), using it is not.
        out.rules.push(rule(true, Some(LinuxDeviceType::C), None, None, "m"));
        out.rules.push(rule(true, Some(LinuxDeviceType::B), None, None, "m"));
        for (major, minor) in STANDARD {
            out.rules.push(rule(true, Some(LinuxDeviceType::C), Some(major), minor, "rwm"));
        }
    }
    if all_nodes {
        for device in &input.host.devices {
            add(&mut out.nodes, node(device, &device.path, Owner::default()));
        }
    }
    for (index, device) in input.config.devices.iter().enumerate() {
        requested(input, index, device, owner, all_rules, &mut out)?;
    }
    out.nodes.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(out)
}

fn requested(
    input: &ContainerInput<'_>,
    index: usize,
    device: &v1::Device,
    owner: Owner,
    all_rules: bool,
    out: &mut Devices,
) -> Result<()> {
    let field = |name: &str| format!("devices[{index}].{name}");
    let access = access(&field("permissions"), &device.permissions)?;
    check(&field("host_path"), &device.host_path)?;
    let host_path = Path::new(&device.host_path);
    let container_path = clean_absolute(&field("container_path"), &device.container_path)?;
    let found = input.mounts.devices(host_path);
    if found.is_empty() {
        return Err(Error::invalid(field("host_path"), format!("{} is no device", shown(&device.host_path))));
    }
    for found in found {
        // Those below a directory keep their place in it.
        let path = match found.path.strip_prefix(host_path) {
            Ok(below) if !below.as_os_str().is_empty() => container_path.join(below),
            _ => container_path.clone(),
        };
        if !all_rules {
            let (major, minor) = (i64::from(found.major), i64::from(found.minor));
            out.rules.push(rule(true, Some(kind(&found)), Some(major), Some(minor), &access));
        }
        out.binds.retain(|(_, known)| *known != path);
        if found.path != path && crate::sandbox_user_namespace(input.sandbox)?.is_some() {
            out.nodes.retain(|known| *known.path() != path);
            out.binds.push((found.path, path));
            continue;
        }
        let owner = if input.handler.device_ownership_from_security_context { owner } else { Owner::default() };
        add(&mut out.nodes, node(&found, &path, owner));
    }
    Ok(())
}

/// A later device takes the place of an earlier one at the same path.
fn add(nodes: &mut Vec<LinuxDevice>, node: LinuxDevice) {
    nodes.retain(|known| known.path() != node.path());
    nodes.push(node);
}

/// A non-empty subset of `rwm`, in that order; nothing given means all.
fn access(field: &str, text: &str) -> Result<String> {
    if text.chars().any(|c| !"rwm".contains(c)) {
        return Err(Error::invalid(field, format!("{} is not made of r, w and m", shown(text))));
    }
    Ok("rwm".chars().filter(|c| text.is_empty() || text.contains(*c)).collect())
}

fn kind(device: &HostDevice) -> LinuxDeviceType {
    match device.kind {
        DeviceKind::Char => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }
}

fn node(device: &HostDevice, path: &Path, owner: Owner) -> LinuxDevice {
    let mut node = LinuxDevice::default();
    node.set_path(path.to_owned())
        .set_typ(kind(device))
        .set_major(i64::from(device.major))
        .set_minor(i64::from(device.minor))
        .set_file_mode(Some(device.mode & 0o7777))
        .set_uid(Some(owner.uid.unwrap_or(device.uid)))
        .set_gid(Some(owner.gid.unwrap_or(device.gid)));
    node
}

fn rule(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(kind.unwrap_or(LinuxDeviceType::A)))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}
