//! The runtime handlers of a node, and the RuntimeClass of each.

use anyhow::Result;
use cricket_testkit::host;
use serde_json::{Value, json};

/// A handler besides the built-in one; its RuntimeClass has its name.
struct Handler {
    name: &'static str,
    /// The OCI runtime: a tool of `hack/tools`, and its program.
    binary: (&'static str, &'static str),
    /// The containerd shim that runs it, likewise; without one it is run itself.
    shim: Option<(&'static str, &'static str)>,
}

/// The one that is always there, and the default.
pub const BUILT_IN: &str = "youki";

/// Those that are programs of the node, by path.
const PROGRAMS: [Handler; 3] = [
    Handler { name: "runc", binary: ("runc", "runc"), shim: None },
    // gVisor: a kernel of its own for each pod.
    Handler { name: "runsc", binary: ("gvisor", "runsc"), shim: None },
    Handler { name: "shim", binary: ("runc", "runc"), shim: Some(("containerd", "containerd-shim-runc-v2")) },
];

/// The names of all, the default first.
pub fn names() -> Vec<&'static str> {
    std::iter::once(BUILT_IN).chain(PROGRAMS.iter().map(|handler| handler.name)).collect()
}

/// The tables that configure those that are not there by themselves; builds their programs where they are missing.
pub(crate) fn tables() -> Result<String> {
    let path = |(tool, program): (&str, &str)| host::tool_dir(tool).map(|dir| dir.join(program).display().to_string());
    let mut text = String::new();
    for Handler { name, binary, shim } in &PROGRAMS {
        let table = format!("plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}");
        text.push_str(&format!("[{table}]\nruntime_type = 'io.containerd.runc.v2'\n"));
        if let Some(shim) = shim {
            text.push_str(&format!("runtime_path = {:?}\n", path(*shim)?));
        }
        text.push_str(&format!("[{table}.options]\nBinaryName = {:?}\n", path(*binary)?));
    }
    Ok(text)
}

/// The RuntimeClass of a handler.
pub(crate) fn class(name: &str) -> Value {
    json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": name }, "handler": name })
}
