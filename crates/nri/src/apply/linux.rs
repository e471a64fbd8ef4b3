//! Devices, namespaces, sysctls, network devices, memory policy, RDT.

use std::path::{Path, PathBuf};

use cricket_oci::oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceCgroup, LinuxMemoryPolicy, LinuxNamespace, LinuxNamespaceType, LinuxNetDevice, Spec,
};

use crate::api::{self, LinuxContainerAdjustment};
use crate::error::{Error, Result};
use crate::merge::removal;

use super::{annotate, named, resources, security};

/// Mode bits that let anybody read, and write.
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;

pub(super) fn apply(spec: &mut Spec, asked: &LinuxContainerAdjustment) -> Result<()> {
    let mut linux = spec.linux().clone().unwrap_or_default();
    devices(&mut linux, &asked.devices)?;
    if !asked.cgroups_path.is_empty() {
        linux.set_cgroups_path(Some(PathBuf::from(&asked.cgroups_path)));
    }
    if let Some(policy) = &asked.seccomp_policy {
        linux.set_seccomp(Some(security::seccomp(policy)?));
    }
    namespaces(&mut linux, &asked.namespaces)?;
    if !asked.sysctl.is_empty() {
        let mut sysctl = linux.sysctl().clone().unwrap_or_default();
        annotate(&mut sysctl, &asked.sysctl);
        linux.set_sysctl(Some(sysctl));
    }
    net_devices(&mut linux, asked);
    if let Some(policy) = &asked.memory_policy {
        linux.set_memory_policy(Some(memory_policy(policy)?));
    }
    if let Some(asked) = &asked.resources {
        resources::apply(&mut linux, asked)?;
    }
    if let Some(asked) = &asked.rdt {
        rdt(&mut linux, asked);
    }
    spec.set_linux(Some(linux));
    Ok(())
}

/// A device that is added may be used; one that is removed has no node any more.
fn devices(linux: &mut Linux, asked: &[api::LinuxDevice]) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let mut nodes = linux.devices().clone().unwrap_or_default();
    let mut rules = Vec::new();
    for device in asked {
        let path = removal(&device.path).unwrap_or(&device.path);
        nodes.retain(|node| node.path() != Path::new(path));
        if removal(&device.path).is_some() {
            continue;
        }
        if !Path::new(path).is_absolute() {
            return Err(Error::adjustment("devices", format_args!("{path:?} is not an absolute path")));
        }
        let mode = device.file_mode.map(|mode| mode.value & 0o7777);
        let mut node = LinuxDevice::default();
        node.set_path(PathBuf::from(path))
            .set_typ(named("devices", &device.r#type)?)
            .set_major(device.major)
            .set_minor(device.minor)
            .set_file_mode(mode)
            .set_uid(device.uid.map(|uid| uid.value))
            .set_gid(device.gid.map(|gid| gid.value));
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(node.typ()))
            .set_major(Some(device.major))
            .set_minor(Some(device.minor))
            .set_access(Some(access(mode, &device.r#type)));
        nodes.push(node);
        rules.push(rule);
    }
    linux.set_devices(Some(nodes));
    resources::allow(linux, rules);
    Ok(())
}

/// What the mode allows anybody; everything when there is none. Block devices may be made as well.
fn access(mode: Option<u32>, kind: &str) -> String {
    let mode = mode.filter(|mode| *mode != 0).unwrap_or(READ | WRITE);
    let letters = [("r", mode & READ != 0), ("w", mode & WRITE != 0), ("m", kind == "b")];
    letters.iter().filter(|(_, allowed)| *allowed).map(|(letter, _)| *letter).collect()
}

fn namespaces(linux: &mut Linux, asked: &[api::LinuxNamespace]) -> Result<()> {
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    for namespace in asked {
        let name = removal(&namespace.r#type).unwrap_or(&namespace.r#type);
        let kind: LinuxNamespaceType = named("namespaces", name)?;
        let path = (!namespace.path.is_empty()).then(|| PathBuf::from(&namespace.path));
        if removal(&namespace.r#type).is_some() {
            namespaces.retain(|other| other.typ() != kind);
        } else if let Some(other) = namespaces.iter_mut().find(|other| other.typ() == kind) {
            other.set_path(path);
        } else {
            let mut added = LinuxNamespace::default();
            added.set_typ(kind).set_path(path);
            namespaces.push(added);
        }
    }
    linux.set_namespaces(Some(namespaces));
    Ok(())
}

fn net_devices(linux: &mut Linux, asked: &LinuxContainerAdjustment) {
    if asked.net_devices.is_empty() {
        return;
    }
    let mut devices = linux.net_devices().clone().unwrap_or_default();
    for name in asked.net_devices.keys().filter_map(|name| removal(name)) {
        devices.remove(name);
    }
    for (name, device) in asked.net_devices.iter().filter(|(name, _)| removal(name).is_none()) {
        let mut moved = LinuxNetDevice::default();
        moved.set_name((!device.name.is_empty()).then(|| device.name.clone()));
        devices.insert(name.clone(), moved);
    }
    linux.set_net_devices(Some(devices));
}

fn memory_policy(asked: &api::LinuxMemoryPolicy) -> Result<LinuxMemoryPolicy> {
    let flags = asked.flags().map(|flag| named("memory policy", flag.as_str_name())).collect::<Result<Vec<_>>>()?;
    let mut policy = LinuxMemoryPolicy::default();
    policy
        .set_mode(named("memory policy", asked.mode().as_str_name())?)
        .set_nodes((!asked.nodes.is_empty()).then(|| asked.nodes.clone()))
        .set_flags((!flags.is_empty()).then_some(flags));
    Ok(policy)
}

fn rdt(linux: &mut Linux, asked: &api::LinuxRdt) {
    if asked.remove {
        linux.set_intel_rdt(None);
    }
    if asked.clos_id.is_none() && asked.schemata.is_none() && asked.enable_monitoring.is_none() {
        return;
    }
    let mut rdt = linux.intel_rdt().clone().unwrap_or_default();
    if let Some(id) = &asked.clos_id {
        rdt.set_clos_id(Some(id.value.clone()));
    }
    if let Some(schemata) = &asked.schemata {
        rdt.set_schemata(Some(schemata.value.clone()));
    }
    if let Some(monitoring) = asked.enable_monitoring {
        rdt.set_enable_monitoring(Some(monitoring.value));
    }
    linux.set_intel_rdt(Some(rdt));
}
