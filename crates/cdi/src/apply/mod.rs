//! Edits an OCI runtime specification (pkg/cdi: `ContainerEdits.Apply`).
//!
//! What the host has to have for it is looked at here, so that a device that cannot be given fails the create, with
//! its name, and not the start.

mod devices;
mod hooks;
mod mounts;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cricket_oci::MountFacts;
use cricket_oci::oci_spec::runtime::{Linux, LinuxIntelRdt, LinuxNamespaceType, LinuxNetDevice, Spec};

pub use devices::{HostNode, LiveNodes, NodeKind, Nodes};

use crate::error::Refusal;
use crate::model::{Edits, IntelRdt, NetDevice};

/// What the handler does. Nothing is left out silently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Able {
    /// It puts containers into RDT classes.
    pub intel_rdt: bool,
    /// It moves network interfaces.
    pub net_devices: bool,
    /// It maps the IDs of mounts, and so does the kernel.
    pub mapped_mounts: bool,
}

/// What edits depend on beside the specification.
pub struct Host<'a> {
    /// The host's device nodes.
    pub nodes: &'a dyn Nodes,
    /// The host's other paths.
    pub mounts: &'a dyn MountFacts,
    /// The handler.
    pub able: Able,
}

type Edited = Result<(), Refusal>;

/// Does all of `edits`. On an error `spec` is partly edited.
pub(crate) fn apply(spec: &mut Spec, edits: &Edits, host: &Host<'_>) -> Edited {
    environment(spec, &edits.env);
    devices::apply(spec, &edits.device_nodes, host)?;
    net_devices(spec, &edits.net_devices, host)?;
    mounts::apply(spec, &edits.mounts, host)?;
    hooks::apply(spec, &edits.hooks)?;
    if let Some(rdt) = &edits.intel_rdt {
        intel_rdt(spec, rdt, host)?;
    }
    groups(spec, &edits.additional_gids)
}

/// A variable that is there already changes where it is.
fn environment(spec: &mut Spec, asked: &[String]) {
    if asked.is_empty() {
        return;
    }
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut process = spec.process().clone().unwrap_or_default();
    let mut env = process.env().clone().unwrap_or_default();
    let mut places: HashMap<String, usize> = env.iter().enumerate().map(|(at, old)| (name(old), at)).collect();
    for variable in asked {
        match places.get(&name(variable)) {
            Some(at) => env[*at].clone_from(variable),
            None => {
                places.insert(name(variable), env.len());
                env.push(variable.clone());
            }
        }
    }
    process.set_env(Some(env));
    spec.set_process(Some(process));
}

fn net_devices(spec: &mut Spec, asked: &[NetDevice], host: &Host<'_>) -> Edited {
    if asked.is_empty() {
        return Ok(());
    }
    if !host.able.net_devices {
        return Err(unable("move network devices (netDevices)"));
    }
    let mut linux = linux(spec);
    let mut devices = linux.net_devices().clone().unwrap_or_default();
    for device in asked {
        let mut moved = LinuxNetDevice::default();
        moved.set_name(Some(device.name.clone()));
        devices.insert(device.host_interface_name.clone(), moved);
    }
    linux.set_net_devices(Some(devices));
    spec.set_linux(Some(linux));
    Ok(())
}

/// Takes the place of what there is. Monitoring is one switch since runtime-spec 1.3.0, and was two before.
fn intel_rdt(spec: &mut Spec, asked: &IntelRdt, host: &Host<'_>) -> Edited {
    if !host.able.intel_rdt {
        return Err(unable("set RDT classes (intelRdt)"));
    }
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let monitoring = asked.enable_monitoring || asked.enable_cmt || asked.enable_mbm;
    let mut rdt = LinuxIntelRdt::default();
    rdt.set_clos_id(text(&asked.clos_id))
        .set_l3_cache_schema(text(&asked.l3_cache_schema))
        .set_mem_bw_schema(text(&asked.mem_bw_schema))
        .set_schemata(asked.schemata.clone())
        .set_enable_monitoring(monitoring.then_some(true));
    let mut linux = linux(spec);
    linux.set_intel_rdt(Some(rdt));
    spec.set_linux(Some(linux));
    Ok(())
}

/// Group 0 is never added: root's group is no device's.
fn groups(spec: &mut Spec, asked: &[u32]) -> Edited {
    if asked.iter().all(|group| *group == 0) {
        return Ok(());
    }
    let maps = spec.linux().as_ref().and_then(|linux| linux.gid_mappings().clone()).unwrap_or_default();
    let mapped = |group: u32| {
        let within = |first: u32, size: u32| group.checked_sub(first).is_some_and(|offset| offset < size);
        maps.is_empty() || maps.iter().any(|map| within(map.container_id(), map.size()))
    };
    let mut process = spec.process().clone().unwrap_or_default();
    let mut user = process.user().clone();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for group in asked.iter().copied().filter(|group| *group != 0) {
        if !mapped(group) {
            return Err(Refusal::Host(format!("the pod's user namespace has no group {group} (additionalGids)")));
        }
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    user.set_additional_gids(Some(groups));
    process.set_user(user);
    spec.set_process(Some(process));
    Ok(())
}

fn linux(spec: &Spec) -> Linux {
    spec.linux().clone().unwrap_or_default()
}

fn unable(what: &str) -> Refusal {
    Refusal::Unsupported(format!("the runtime handler does not {what}"))
}

fn in_user_namespace(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|all| all.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User))
}

/// Without `.` and doubled slashes; there is no `..` in it.
fn clean(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

#[cfg(test)]
#[path = "../apply_tests.rs"]
pub(crate) mod tests;
