//! One `[crio.runtime.runtimes.NAME]`, see crio.conf(5).

use cricket_runtime::handlers::RUNC_TYPE;
use toml::Value;

use super::{Found, string, wrong};
use crate::config::error::Result;
use crate::config::node::{Kind, Node, Table};

/// What `inherit_default_runtime` takes from the default handler.
const INHERITED: [&str; 4] = ["runtime_path", "runtime_type", "runtime_root", "runtime_config_path"];
/// Options of shims in general, as containerd names their type.
const SHIM_OPTIONS: &str = "runtimeoptions.v1.Options";

/// A handler in containerd's words. Keys of a table and their values, in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) name: String,
    pub(super) keys: Vec<(&'static str, Value)>,
    pub(super) options: Vec<(&'static str, Value)>,
}

/// Translates one; `None` where nothing can be made of it. `default`: name and table of the default handler, for one that
/// is to inherit from it.
pub(super) fn import(
    name: &str,
    mut table: Table,
    default: Option<(&str, &Table)>,
    found: &mut Found,
) -> Result<Option<Imported>> {
    if !is_label(name) {
        for node in table.into_values() {
            found.leave(node, "the handler's name is no DNS label, so that no RuntimeClass can name it");
        }
        found.notes.push(format!("handler {name:?} was left out: its name is no DNS label"));
        return Ok(None);
    }
    inherit(&mut table, default, found)?;
    let kind = text(&mut table, "runtime_type")?;
    let path = text(&mut table, "runtime_path")?;
    let root = text(&mut table, "runtime_root")?;
    let mut handler = Imported { name: name.to_owned(), ..Imported::default() };
    match kind.as_ref().map_or("", |(kind, _)| kind.as_str()) {
        // "pod" is the same runtime below another monitor.
        "" | "oci" | "pod" => {
            handler.keys.push(("runtime_type", RUNC_TYPE.into()));
            // Without a path CRI-O looks the handler's name up in $PATH.
            let binary = path.map_or_else(|| name.to_owned(), |(path, _)| path);
            handler.options.push(("BinaryName", binary.into()));
            handler.options.extend(root.map(|(root, _)| ("Root", root.into())));
        }
        "vm" => {
            let Some(shim) = path.as_ref().and_then(|(path, _)| shim_type(path)) else {
                let reason = "want a path to containerd-shim-NAME-v2: only that says which shim it is".to_owned();
                let place = path.map(|(_, node)| node.place).or_else(|| kind.map(|(_, node)| node.place));
                return place.map_or(Ok(None), |place| Err(wrong(&place, reason)));
            };
            handler.keys.push(("runtime_type", shim.into()));
            handler.keys.extend(path.map(|(path, _)| ("runtime_path", path.into())));
            if let Some((config, _)) = text(&mut table, "runtime_config_path")? {
                handler.options.push(("TypeUrl", SHIM_OPTIONS.into()));
                handler.options.push(("ConfigPath", config.into()));
            }
            if let Some((_, node)) = root {
                found.leave(node, "shims keep their state where containerd's protocol says");
            }
        }
        _ => {
            let Some((kind, node)) = kind else { return Ok(None) };
            return Err(wrong(&node.place, format!("{kind:?}: want \"oci\", \"vm\" or \"pod\"")));
        }
    }
    if let Some(node) = table.remove("privileged_without_host_devices") {
        let Kind::Value(value @ Value::Boolean(_)) = node.kind else {
            return Err(wrong(&node.place, "want true or false".to_owned()));
        };
        handler.keys.push(("privileged_without_host_devices", value));
    }
    if let Some(node) = table.remove("allowed_annotations") {
        annotations(node, &mut handler, found)?;
    }
    for (key, node) in table {
        found.leave(node, reason(&key));
    }
    Ok(Some(handler))
}

/// RuntimeClass handlers are DNS labels (node.k8s.io/v1, `RuntimeClass.handler`).
fn is_label(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

/// `inherit_default_runtime`: which binary it is comes from the default handler, whatever the table says.
fn inherit(table: &mut Table, default: Option<(&str, &Table)>, found: &mut Found) -> Result<()> {
    let Some(node) = table.remove("inherit_default_runtime") else { return Ok(()) };
    match node.kind {
        Kind::Value(Value::Boolean(false)) => return Ok(()),
        Kind::Value(Value::Boolean(true)) => {}
        _ => return Err(wrong(&node.place, "want true or false".to_owned())),
    }
    let Some((name, default)) = default else {
        found.leave(node, "there is no other handler that is the default");
        return Ok(());
    };
    for key in INHERITED {
        if let Some(own) = table.remove(key) {
            found.leave(own, "replaced by what is inherited from the default handler");
        }
        if let Some(theirs) = default.get(key) {
            table.insert(key.to_owned(), theirs.clone());
        }
    }
    // Without a path it is the default's name that is looked up.
    if text(&mut table.clone(), "runtime_path")?.is_none() {
        let kind = Kind::Value(Value::String(name.to_owned()));
        table.insert("runtime_path".to_owned(), Node { kind, ..node });
    }
    Ok(())
}

/// Takes a string out; an empty one is none.
fn text(table: &mut Table, key: &str) -> Result<Option<(String, Node)>> {
    let Some(node) = table.remove(key) else { return Ok(None) };
    let text = string(&node)?.to_owned();
    Ok(Some((text, node)).filter(|(text, _)| !text.is_empty()))
}

/// `/usr/bin/containerd-shim-kata-v2` is `io.containerd.kata.v2`.
fn shim_type(path: &str) -> Option<String> {
    let (name, version) = path.rsplit('/').next()?.strip_prefix("containerd-shim-")?.rsplit_once('-')?;
    let number = version.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    (number && !name.is_empty()).then(|| format!("io.containerd.{name}.{version}"))
}

/// Prefixes of annotations: those that CRI-O acts upon itself have no counterpart, the others go to the runtime.
fn annotations(node: Node, handler: &mut Imported, found: &mut Found) -> Result<()> {
    let Kind::Value(Value::Array(list)) = &node.kind else {
        return Err(wrong(&node.place, "want a list of strings".to_owned()));
    };
    let mut globs = Vec::new();
    for value in list {
        let Some(prefix) = value.as_str() else {
            return Err(wrong(&node.place, "want a list of strings".to_owned()));
        };
        match crios_own(prefix) {
            Some(reason) => found.left(node.place.clone(), value, reason),
            // A star matches no slash.
            None => globs.extend([format!("{}*", escaped(prefix)), format!("{}*/*", escaped(prefix))]),
        }
    }
    if !globs.is_empty() {
        let globs = Value::from(globs);
        handler.keys.extend([("pod_annotations", globs.clone()), ("container_annotations", globs)]);
    }
    Ok(())
}

/// What became of an annotation that means something to CRI-O, crio.conf(5).
fn crios_own(annotation: &str) -> Option<&'static str> {
    const OWN: [&str; 3] =
        ["io.kubernetes.cri-o.", "seccomp-profile.kubernetes.cri-o.io", "io.kubernetes.cri.rdt-class"];
    Some(match annotation {
        "io.kubernetes.cri-o.userns-mode" => "acted upon by CRI-O only; use hostUsers: false",
        "io.kubernetes.cri-o.ShmSize" => "acted upon by CRI-O only; use an emptyDir of medium Memory at /dev/shm",
        "io.kubernetes.cri-o.Devices" => "acted upon by CRI-O only; use CDI devices",
        other if OWN.iter().any(|own| other.starts_with(own)) => "acted upon by CRI-O only",
        _ => return None,
    })
}

/// Literally, in a glob.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Why a handler's key has no counterpart.
fn reason(key: &str) -> &'static str {
    match key {
        "monitor_path" | "monitor_env" | "monitor_cgroup" | "monitor_exec_cgroup" => {
            "about conmon; cricket's own monitor needs no setting"
        }
        "no_sync_log" => "about conmon's logs",
        "runtime_config_path" => "only shims (runtime_type \"vm\") read it",
        "container_min_memory" => "there is no lower bound here",
        "platform_runtime_paths" => "a handler has one binary",
        "default_annotations" => "handlers add no annotations; base_runtime_spec can",
        _ => "unknown to cricket",
    }
}
