//! `cricket config import --crio`: CRI-O's runtime handlers in containerd's format.
//!
//! ```text
//! crio.conf ─▶ crio.conf.d/* ─▶ handlers, default, cgroup driver ─▶ TOML ─▶ read back as the daemon would
//!                                        └─▶ what has no counterpart: listed below it as comments
//! ```
//!
//! Files count as crio.conf.d(5) says: in the order of their names, after the main one. A handler that a later file
//! names replaces the earlier one whole, keys included that it does not repeat: so CRI-O decodes its table.
//!
//! Invariant: every key that is set is either taken over or listed with the reason.

mod handler;
mod print;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Value;

use super::Config;
use super::error::{ConfigError, Result};
use super::file;
use super::node::{self, Kind, Node, Place, Table};
use super::print::cut;
use handler::Imported;

/// Most files of a directory.
const MAX_FILES: usize = 200;
/// Where handlers are.
const RUNTIMES: [&str; 3] = ["crio", "runtime", "runtimes"];

/// What became of CRI-O's configuration.
#[derive(Debug)]
pub(crate) struct Import {
    /// The configuration, in containerd's format, with comments.
    pub(crate) toml: String,
    /// How many settings are listed as not taken over.
    pub(crate) left: usize,
}

/// A setting that has no counterpart.
#[derive(Debug)]
struct Left {
    place: Place,
    value: String,
    reason: String,
}

/// Everything that was found.
#[derive(Debug, Default)]
struct Found {
    files: Vec<PathBuf>,
    handlers: Vec<Imported>,
    default: Option<String>,
    /// `cgroup_driver`, and whether CRI-O's configuration says so; else it is CRI-O's default.
    driver: Option<(&'static str, bool)>,
    left: Vec<Left>,
    /// What a person has to know besides.
    notes: Vec<String>,
}

impl Found {
    fn left(&mut self, place: Place, value: &Value, reason: impl Into<String>) {
        let value = cut(&place.key, value);
        self.left.push(Left { place, value, reason: reason.into() });
    }

    /// Every value of a node.
    fn leave(&mut self, node: Node, reason: &str) {
        let table = Table::from([(String::new(), node)]);
        for (place, value) in node::leaves(&table) {
            self.left(place.clone(), value, reason);
        }
    }
}

/// Reads the file, and what is in the directory.
///
/// # Errors
/// A file that cannot be read, is larger than any configuration or no TOML; a value of the wrong type.
pub(crate) fn import(file: &Path, directory: Option<&Path>) -> Result<Import> {
    let mut files = vec![file.to_owned()];
    if let Some(directory) = directory {
        files.extend(drop_ins(directory)?);
    }
    let texts = files.into_iter().map(|path| Ok((file::text(&path)?, path)));
    convert(texts.collect::<Result<Vec<_>>>()?)
}

/// The regular files of the directory, in the order of their names.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| ConfigError::Io { path: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            let reason = format!("holds more than {MAX_FILES} files");
            return Err(ConfigError::Bounds { path: directory.to_owned(), reason });
        }
    }
    files.sort();
    Ok(files)
}

fn convert(texts: Vec<(String, PathBuf)>) -> Result<Import> {
    let mut found = Found::default();
    let mut all = Table::new();
    for (text, path) in texts {
        let table = node::parse(&Arc::from(path.as_path()), &text)?;
        if let Some(Node { kind: Kind::Table(newer), .. }) = node::get(&table, &RUNTIMES) {
            for name in newer.keys() {
                node::take(&mut all, &[&RUNTIMES[..], &[name.as_str()]].concat());
            }
        }
        node::merge(&mut all, table);
        found.files.push(path);
    }
    driver(&mut all, &mut found)?;
    let default = node::take(&mut all, &["crio", "runtime", "default_runtime"]);
    handlers(&mut all, default.as_ref(), &mut found)?;
    default_handler(default, &mut found)?;
    for node in all.into_values() {
        found.leave(node, "not about a runtime handler");
    }
    found.left.sort_by(|a, b| (&a.place.file, a.place.line).cmp(&(&b.place.file, b.place.line)));
    judge(&mut found);
    Ok(Import { toml: print::to_toml(&found), left: found.left.len() })
}

/// One driver for a node: CRI-O's is systemd unless it says otherwise.
fn driver(all: &mut Table, found: &mut Found) -> Result<()> {
    let Some(node) = node::take(all, &["crio", "runtime", "cgroup_manager"]) else {
        found.driver = Some(("systemd", false));
        return Ok(());
    };
    found.driver = match string(&node)? {
        "" => Some(("systemd", false)),
        "systemd" => Some(("systemd", true)),
        "cgroupfs" => Some(("cgroupfs", true)),
        other => return Err(wrong(&node.place, format!("{other:?}: want \"systemd\" or \"cgroupfs\""))),
    };
    Ok(())
}

fn handlers(all: &mut Table, default: Option<&Node>, found: &mut Found) -> Result<()> {
    let Some(node) = node::take(all, &RUNTIMES) else { return Ok(()) };
    let Kind::Table(runtimes) = node.kind else { return Err(wrong(&node.place, "want a table".to_owned())) };
    let default = default.map(string).transpose()?.unwrap_or_default();
    let inherited = match runtimes.get(default) {
        Some(Node { kind: Kind::Table(table), .. }) => Some((default, table.clone())),
        _ => None,
    };
    for (name, node) in runtimes {
        let Kind::Table(table) = node.kind else { return Err(wrong(&node.place, "want a table".to_owned())) };
        let inherited = inherited.as_ref().filter(|(default, _)| *default != name);
        let handler = handler::import(&name, table, inherited.map(|(name, table)| (*name, table)), found)?;
        found.handlers.extend(handler);
    }
    Ok(())
}

fn default_handler(default: Option<Node>, found: &mut Found) -> Result<()> {
    let name = default.as_ref().map(string).transpose()?.unwrap_or_default().to_owned();
    match default {
        Some(_) if found.handlers.iter().any(|h| h.name == name) => found.default = Some(name),
        Some(node) if !name.is_empty() => {
            found.leave(node, "none of the imported handlers: pods without a RuntimeClass run on cricket's youki");
        }
        _ => found
            .notes
            .push("CRI-O's default_runtime is not set: pods without a RuntimeClass run on cricket's youki".to_owned()),
    }
    Ok(())
}

/// Reads the result as the daemon would, and notes what it would say.
fn judge(found: &mut Found) {
    let said = match Config::of_text(&print::to_toml(found)) {
        Ok(config) => {
            let unused = config.unsupported.iter().map(|u| format!("{} is not used by this cricket", u.place.key));
            let mut said: Vec<_> = unused.collect();
            match crate::serve::handlers(&config) {
                Ok(handlers) => {
                    said.extend(handlers.refused().map(|(name, reason)| format!("handler {name:?}: {reason}")));
                }
                Err(e) => said.push(format!("cricket does not start with this: {e}")),
            }
            said
        }
        Err(e) => vec![format!("cricket does not start with this: {e}")],
    };
    found.notes.extend(said);
}

/// A string.
fn string(node: &Node) -> Result<&str> {
    match &node.kind {
        Kind::Value(Value::String(text)) => Ok(text),
        _ => Err(wrong(&node.place, "want a string".to_owned())),
    }
}

fn wrong(place: &Place, reason: String) -> ConfigError {
    ConfigError::Value { place: place.clone(), reason }
}
