//! The runtime handlers of a node, and the RuntimeClass of each.

use anyhow::Result;
use cricket_testkit::host;
use serde_json::{Value, json};

/// A handler besides the built-in one; its RuntimeClass has its name.
struct Handler {
    name: &'static str,
    /// The tool of `hack/tools` that has the program.
    tool: &'static str,
    program: &'static str,
}

/// The one that is always there, and the default.
pub const BUILT_IN: &str = "youki";

/// OCI runtimes by path.
const BINARIES: [Handler; 2] = [
    Handler { name: "runc", tool: "runc", program: "runc" },
    // gVisor: a kernel of its own for each pod.
    Handler { name: "runsc", tool: "gvisor", program: "runsc" },
];

/// The names of all, the default first.
pub fn names() -> Vec<&'static str> {
    std::iter::once(BUILT_IN).chain(BINARIES.iter().map(|handler| handler.name)).collect()
}

/// The tables that configure those that are not there by themselves; builds their programs where they are missing.
pub(crate) fn tables() -> Result<String> {
    let mut text = String::new();
    for Handler { name, tool, program } in &BINARIES {
        let path = host::tool_dir(tool)?.join(program).display().to_string();
        let table = format!("plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}");
        text.push_str(&format!(
            "[{table}]\nruntime_type = 'io.containerd.runc.v2'\n[{table}.options]\nBinaryName = {path:?}\n"
        ));
    }
    Ok(text)
}

/// The RuntimeClass of a handler.
pub(crate) fn class(name: &str) -> Value {
    json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": { "name": name }, "handler": name })
}
