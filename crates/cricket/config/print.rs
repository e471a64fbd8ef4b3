//! The effective configuration as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::node::quoted;
use super::own;
use super::reader::{HIDDEN, Shown};
use super::versions::{IMAGES, RUNTIME};
use super::{Config, Unsupported};

/// Column of the comments, where the value is not longer.
const COLUMN: usize = 60;
/// Longest value that a list of unsupported keys shows.
const MAX_VALUE: usize = 120;

impl Config {
    /// As TOML, each value with a comment that says where it came from, then what is not supported.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        for file in &self.files {
            let _ = writeln!(out, "# read: {}", file.display());
        }
        if self.files.is_empty() {
            out.push_str("# no configuration file was read\n");
        }
        out.push_str("version = 3\n");
        let mut tables: BTreeMap<Vec<String>, Vec<&Shown>> = BTreeMap::new();
        for shown in &self.shown {
            tables.entry(shown.table.clone()).or_default().push(shown);
        }
        for (table, keys) in tables {
            let name = table.iter().map(|k| quoted(k)).collect::<Vec<_>>().join(".");
            // Keys of no table come first.
            if !name.is_empty() {
                let _ = writeln!(out, "\n[{name}]");
            }
            for shown in keys {
                let line = format!("{} = {}", quoted(&shown.key), shown.value);
                let _ = writeln!(out, "{line:COLUMN$} # {}", shown.origin);
            }
        }
        if !self.unsupported.is_empty() {
            out.push_str("\n# Set, but not used by cricket:\n");
            for key in &self.unsupported {
                let _ = writeln!(out, "#   {key}");
            }
        }
        out
    }

    /// For clients that ask the daemon: the runtime's table with containerd's names, the others below it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut root = serde_json::Map::new();
        for shown in &self.shown {
            let path: Vec<&str> = shown.table.iter().map(String::as_str).collect();
            let path = match path.as_slice() {
                ["plugins", RUNTIME, rest @ ..] => rest.to_vec(),
                ["plugins", IMAGES, rest @ ..] => [&["images"], rest].concat(),
                table if *table == own::TABLE => vec!["cricket"],
                other => other.to_vec(),
            };
            let mut at = &mut root;
            for key in path {
                let next = at.entry(key).or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
                let Some(next) = next.as_object_mut() else { return serde_json::Value::Object(root) };
                at = next;
            }
            at.insert(shown.key.clone(), serde_json::to_value(&shown.value).unwrap_or_default());
        }
        serde_json::Value::Object(root)
    }
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {} ({})", self.place.key, self.value, self.place)?;
        if let Some(reason) = self.reason {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

/// A value for a list: short, and without what may be a secret.
pub(super) fn cut(key: &str, value: &toml::Value) -> String {
    let last = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    if ["password", "token", "auth", "secret"].iter().any(|word| last.contains(word)) || key.contains("headers") {
        return HIDDEN.to_owned();
    }
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
