//! The imported handlers as a configuration file.

use std::fmt::Write as _;

use toml::Value;

use super::Found;
use crate::config::node::quoted;
use crate::config::own;
use crate::config::versions::RUNTIME;

/// The file, with everything that a person has to know as comments.
pub(super) fn to_toml(found: &Found) -> String {
    let mut out = "# Imported from CRI-O's configuration:\n".to_owned();
    for file in &found.files {
        let _ = writeln!(out, "#   {}", comment(&file.display().to_string()));
    }
    out.push_str("version = 3\n");
    table(&mut out, &own::TABLE);
    if let Some(name) = &found.default {
        key(&mut out, "default_handler", &Value::from(name.as_str()));
    }
    if let Some((driver, set)) = found.driver {
        if !set {
            out.push_str("# CRI-O's default, which its configuration leaves as it is.\n");
        }
        key(&mut out, "cgroup_driver", &Value::from(driver));
    }
    for handler in &found.handlers {
        let name = ["plugins", RUNTIME, "containerd", "runtimes", &handler.name];
        table(&mut out, &name);
        handler.keys.iter().for_each(|(name, value)| key(&mut out, name, value));
        if !handler.options.is_empty() {
            table(&mut out, &[&name[..], &["options"]].concat());
            handler.options.iter().for_each(|(name, value)| key(&mut out, name, value));
        }
    }
    if !found.left.is_empty() {
        out.push_str("\n# Not taken over:\n");
    }
    for left in &found.left {
        let text = format!("{} = {} ({}): {}", left.place.key, left.value, left.place, left.reason);
        let _ = writeln!(out, "#   {}", comment(&text));
    }
    if !found.notes.is_empty() {
        out.push_str("\n# To know:\n");
    }
    for note in &found.notes {
        let _ = writeln!(out, "#   {}", comment(note));
    }
    out
}

fn table(out: &mut String, path: &[&str]) {
    let name = path.iter().map(|k| quoted(k)).collect::<Vec<_>>().join(".");
    let _ = writeln!(out, "\n[{name}]");
}

fn key(out: &mut String, key: &str, value: &Value) {
    let _ = writeln!(out, "{key} = {value}");
}

/// One line, in which TOML accepts every character.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
