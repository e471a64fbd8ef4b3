//! Takes settings out of the document: what nobody took is not supported.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Value;

use super::error::{ConfigError, Result};
use super::node::{self, Kind, Node, Place, Table};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody set it.
    Default,
    /// The command line.
    Flag(&'static str),
    /// A file.
    File(Place),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(flag) => f.write_str(flag),
            Self::File(place) => place.fmt(f),
        }
    }
}

/// An effective value, as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The table's keys, from the outside.
    pub(crate) table: Vec<String>,
    /// The key in it.
    pub(crate) key: String,
    /// The value; secrets are replaced.
    pub(crate) value: Value,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// The document while it is read.
pub(crate) struct Reader {
    root: Table,
    shown: Vec<Shown>,
    /// Tables and keys of settings without a value: nobody sees them, but they exist.
    unset: Vec<(Vec<String>, String)>,
}

/// What is shown instead of a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

impl Reader {
    /// Reads from this document.
    pub(crate) fn new(root: Table) -> Self {
        Self { root, shown: Vec::new(), unset: Vec::new() }
    }

    /// A setting; shown whether it is set or not.
    pub(crate) fn setting<T: DeserializeOwned + Serialize>(
        &mut self,
        table: &[&str],
        key: &str,
        default: T,
    ) -> Result<T> {
        match self.take(table, key)? {
            Some((value, place)) => {
                let read = decode(value, &place)?;
                self.show(table, key, &read, Origin::File(place));
                Ok(read)
            }
            None => {
                self.show(table, key, &default, Origin::Default);
                Ok(default)
            }
        }
    }

    /// A setting without a default; shown only where it is set.
    pub(crate) fn optional<T: DeserializeOwned + Serialize>(&mut self, table: &[&str], key: &str) -> Result<Option<T>> {
        let Some((value, place)) = self.take(table, key)? else {
            self.unset.push((owned(table), key.to_owned()));
            return Ok(None);
        };
        let read = decode(value, &place)?;
        self.show(table, key, &read, Origin::File(place));
        Ok(Some(read))
    }

    /// A setting that is never shown.
    pub(crate) fn secret<T: DeserializeOwned + Default>(&mut self, table: &[&str], key: &str) -> Result<T> {
        let Some((value, place)) = self.take(table, key)? else { return Ok(T::default()) };
        self.show(table, key, &HIDDEN, Origin::File(place.clone()));
        decode(value, &place)
    }

    /// A setting that the command line may give.
    pub(crate) fn flagged<T: DeserializeOwned + Serialize>(
        &mut self,
        table: &[&str],
        key: &str,
        flag: (&'static str, Option<T>),
        default: T,
    ) -> Result<T> {
        let (name, Some(value)) = flag else { return self.setting(table, key, default) };
        // The file's is still read: a wrong one is an error all the same.
        if let Some((value, place)) = self.take(table, key)? {
            decode::<T>(value, &place)?;
        }
        self.show(table, key, &value, Origin::Flag(name));
        Ok(value)
    }

    /// A key that says what cricket does anyway. With any other value it stays, to be listed as not supported.
    pub(crate) fn fixed(&mut self, table: &[&str], key: &str, does: impl Into<Value>) {
        let path = path(table, key);
        if let Some(Node { kind: Kind::Value(value), place }) = node::get(&self.root, &path)
            && *value == does.into()
        {
            let (value, place) = (value.clone(), place.clone());
            node::take(&mut self.root, &path);
            self.show(table, key, &value, Origin::File(place));
        }
    }

    /// The keys of a table that are set.
    pub(crate) fn keys(&self, table: &[&str]) -> Vec<String> {
        match node::get(&self.root, table) {
            Some(Node { kind: Kind::Table(inner), .. }) => inner.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Where the value of a setting that was read is from.
    pub(crate) fn origin(&self, table: &[&str], key: &str) -> Option<&Origin> {
        self.shown.iter().find(|s| s.table == table && s.key == key).map(|s| &s.origin)
    }

    /// An error about a setting that was read.
    pub(crate) fn wrong(&self, table: &[&str], key: &str, reason: impl fmt::Display) -> ConfigError {
        match self.origin(table, key) {
            Some(Origin::File(place)) => ConfigError::Value { place: place.clone(), reason: reason.to_string() },
            Some(Origin::Flag(flag)) => ConfigError::Flag { flag, reason: reason.to_string() },
            _ => ConfigError::Flag { flag: "configuration", reason: format!("{key}: {reason}") },
        }
    }

    /// Refuses what is left of a table: for cricket's own, where it can only be a mistake.
    pub(crate) fn deny_rest(&self, table: &[&str]) -> Result<()> {
        let Some(found) = node::get(&self.root, table) else { return Ok(()) };
        let Kind::Table(rest) = &found.kind else {
            return Err(ConfigError::Value { place: found.place.clone(), reason: "want a table".into() });
        };
        let Some(node) = rest.values().next() else { return Ok(()) };
        let shown = self.shown.iter().filter(|s| s.table == table).map(|s| s.key.as_str());
        let unset = self.unset.iter().filter(|(t, _)| t == table).map(|(_, key)| key.as_str());
        let mut known: Vec<_> = shown.chain(unset).collect();
        known.sort_unstable();
        let table = table.iter().map(|k| node::quoted(k)).collect::<Vec<_>>().join(".");
        Err(ConfigError::Unknown { place: node.place.clone(), table, known: known.join(", ") })
    }

    /// What was read, and what nobody took.
    pub(crate) fn finish(self) -> (Vec<Shown>, Vec<(Place, Value)>) {
        let mut rest: Vec<_> = node::leaves(&self.root).into_iter().map(|(p, v)| (p.clone(), v.clone())).collect();
        rest.sort_by(|(a, _), (b, _)| (&a.file, a.line).cmp(&(&b.file, b.line)));
        (self.shown, rest)
    }

    fn take(&mut self, table: &[&str], key: &str) -> Result<Option<(Value, Place)>> {
        let Some(node) = node::take(&mut self.root, &path(table, key)) else { return Ok(None) };
        match node.kind {
            Kind::Value(value) => Ok(Some((value, node.place))),
            Kind::Table(inner) => Ok(Some((Value::Table(plain(inner)), node.place))),
        }
    }

    fn show<T: Serialize>(&mut self, table: &[&str], key: &str, value: &T, origin: Origin) {
        let value = Value::try_from(value).unwrap_or_else(|e| Value::String(format!("(cannot be shown: {e})")));
        self.shown.push(Shown { table: owned(table), key: key.to_owned(), value, origin });
    }
}

fn owned(table: &[&str]) -> Vec<String> {
    table.iter().map(|k| (*k).to_owned()).collect()
}

fn path<'a>(table: &[&'a str], key: &'a str) -> Vec<&'a str> {
    table.iter().copied().chain([key]).collect()
}

fn plain(table: Table) -> toml::Table {
    let value = |node: Node| match node.kind {
        Kind::Value(value) => value,
        Kind::Table(inner) => Value::Table(plain(inner)),
    };
    table.into_iter().map(|(key, node)| (key, value(node))).collect()
}

fn decode<T: DeserializeOwned>(value: Value, place: &Place) -> Result<T> {
    value
        .try_into()
        .map_err(|e: toml::de::Error| ConfigError::Value { place: place.clone(), reason: e.message().to_owned() })
}
