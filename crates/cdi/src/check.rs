//! What has to hold of a specification beyond its form (pkg/cdi: `Spec.validate`, `ContainerEdits.Validate`), and what
//! the OCI runtime specification wants of what becomes of it.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use crate::error::shown;
use crate::model::{DeviceNode, Edits, Hook, IntelRdt, Mount, NetDevice, Specification};
use crate::{name, version};

/// PATH_MAX, with the final NUL.
const MAX_PATH: usize = 4096;
/// IFNAMSIZ, likewise.
const MAX_INTERFACE: usize = 16;

/// The kinds of hooks.
pub(crate) const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

type Checked = Result<(), String>;

/// Checks a whole file.
pub(crate) fn specification(spec: &Specification) -> Checked {
    name::kind(&spec.kind).map_err(|e| format!("kind {}: {e}", shown(&spec.kind)))?;
    version::check(spec)?;
    edits(&spec.container_edits).map_err(|e| format!("containerEdits: {e}"))?;
    let mut names = BTreeSet::new();
    for device in &spec.devices {
        let within = |e: &dyn std::fmt::Display| format!("device {}: {e}", shown(&device.name));
        name::device(&device.name).map_err(|e| within(&e))?;
        if !names.insert(&device.name) {
            return Err(within(&"is there twice"));
        }
        if device.container_edits == Edits::default() {
            return Err(within(&"has no containerEdits"));
        }
        edits(&device.container_edits).map_err(|e| within(&e))?;
    }
    match names.is_empty() {
        true => Err("has no devices".to_owned()),
        false => Ok(()),
    }
}

fn edits(edits: &Edits) -> Checked {
    environment(&edits.env)?;
    edits.device_nodes.iter().try_for_each(node)?;
    edits.mounts.iter().try_for_each(mount)?;
    edits.hooks.iter().try_for_each(hook)?;
    edits.intel_rdt.iter().try_for_each(rdt)?;
    interfaces(&edits.net_devices)
}

fn environment(env: &[String]) -> Checked {
    let odd = |variable: &&String| variable.find('=').is_none_or(|at| at == 0) || variable.contains('\0');
    match env.iter().find(odd) {
        Some(wrong) => Err(format!("env {} is not NAME=VALUE", shown(wrong))),
        None => Ok(()),
    }
}

/// A path in the container or of the host: absolute, and something below the root.
fn path(what: &str, path: &str) -> Checked {
    let sound = path.len() < MAX_PATH && !path.contains('\0') && path.starts_with('/');
    match sound && Path::new(path).components().any(|part| matches!(part, Component::Normal(_))) {
        true => Ok(()),
        false => Err(format!("{what} {} is not an absolute path", shown(path))),
    }
}

fn node(node: &DeviceNode) -> Checked {
    path("path of a device node", &node.path)?;
    let within = |what: &str| format!("device node {}: {what}", shown(&node.path));
    if !node.host_path.is_empty() {
        path("hostPath", &node.host_path).map_err(|e| within(&e))?;
    }
    // Names of files are made of it.
    if node.path.split('/').any(|part| part == "..") {
        return Err(within("the path has \"..\" in it"));
    }
    if !["", "b", "c", "u", "p"].contains(&node.kind.as_str()) {
        return Err(within(&format!("type {} is none of b, c, u, p", shown(&node.kind))));
    }
    if node.permissions != "none" && node.permissions.chars().any(|c| !"rwm".contains(c)) {
        return Err(within(&format!("permissions {} are not made of r, w and m", shown(&node.permissions))));
    }
    if [node.major, node.minor].into_iter().any(|number| u32::try_from(number).is_err()) {
        return Err(within("a number is none of a device"));
    }
    match node.file_mode.filter(|mode| *mode > 0o7777) {
        Some(mode) => Err(within(&format!("fileMode 0{mode:o} has more than permission bits"))),
        None => Ok(()),
    }
}

fn mount(mount: &Mount) -> Checked {
    path("containerPath of a mount", &mount.container_path)?;
    let within = |what: String| format!("mount {}: {what}", shown(&mount.container_path));
    if mount.container_path.split('/').any(|part| part == "..") {
        return Err(within("the path has \"..\" in it".to_owned()));
    }
    if is_bind(mount) {
        path("hostPath", &mount.host_path).map_err(within)?;
    }
    let sources = [&mount.host_path, &mount.kind].into_iter().chain(&mount.options);
    match mount.host_path.is_empty() || sources.into_iter().any(|text| text.contains('\0') || text.len() >= MAX_PATH) {
        true => Err(within("hostPath, type and options are not those of a mount".to_owned())),
        false => Ok(()),
    }
}

/// Without a file system it can be nothing else.
pub(crate) fn is_bind(mount: &Mount) -> bool {
    let asked = |option: &String| option == "bind" || option == "rbind";
    ["", "bind"].contains(&mount.kind.as_str()) || mount.options.iter().any(asked)
}

fn hook(hook: &Hook) -> Checked {
    if !HOOKS.contains(&hook.hook_name.as_str()) {
        return Err(format!("hook {} is none of {}", shown(&hook.hook_name), HOOKS.join(", ")));
    }
    let within = |what: String| format!("{} hook: {what}", hook.hook_name);
    path("path", &hook.path).map_err(within)?;
    environment(&hook.env).map_err(within)?;
    if hook.args.iter().any(|arg| arg.contains('\0')) {
        return Err(within("an argument has a NUL".to_owned()));
    }
    match hook.timeout.filter(|seconds| *seconds <= 0) {
        Some(seconds) => Err(within(format!("timeout {seconds} is not more than 0"))),
        None => Ok(()),
    }
}

/// The class is a directory's name in resctrl; `/` means its root.
fn rdt(rdt: &IntelRdt) -> Checked {
    let id = &rdt.clos_id;
    let bad = id.len() >= MAX_PATH || [".", ".."].contains(&id.as_str()) || id.contains(['/', '\n', '\0']);
    match bad && id != "/" {
        true => Err(format!("intelRdt.closID {} is no name of a class", shown(id))),
        false => Ok(()),
    }
}

fn interfaces(devices: &[NetDevice]) -> Checked {
    let (mut hosts, mut names) = (BTreeSet::new(), BTreeSet::new());
    for device in devices {
        for name in [&device.host_interface_name, &device.name] {
            let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
            if name.is_empty()
                || name.len() >= MAX_INTERFACE
                || [".", ".."].contains(&name.as_str())
                || name.contains(odd)
            {
                return Err(format!("netDevices: {} is no name of an interface", shown(name)));
            }
        }
        if !hosts.insert(&device.host_interface_name) || !names.insert(&device.name) {
            return Err(format!("netDevices: {} or its name is there twice", shown(&device.host_interface_name)));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
