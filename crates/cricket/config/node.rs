//! A TOML document whose every key remembers where it was written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Result};

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: Arc<Path>,
    /// Counted from 1.
    pub(crate) line: usize,
    /// The whole key as TOML writes it.
    pub(crate) key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A table or a value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Of its key.
    pub(crate) place: Place,
    /// Its content.
    pub(crate) kind: Kind,
}

/// The content of a [`Node`].
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A table, inline ones included.
    Table(Table),
    /// Anything else; tables inside of arrays are part of the value.
    Value(Value),
}

/// The keys of a table.
pub(crate) type Table = BTreeMap<String, Node>;

/// Parses a document.
pub(crate) fn parse(file: &Arc<Path>, text: &str) -> Result<Table> {
    let syntax = |e: toml::de::Error| ConfigError::Syntax {
        path: file.to_path_buf(),
        line: e.span().map_or(1, |s| line_of(text, s.start)),
        message: e.message().to_owned(),
    };
    // The values of one, the places of the other.
    let values: toml::Table = toml::from_str(text).map_err(syntax)?;
    let spans = DeTable::parse(text).map_err(syntax)?;
    let mut parser = Parser { file, text, path: Vec::new() };
    Ok(parser.table(values, spans.get_ref()))
}

struct Parser<'a> {
    file: &'a Arc<Path>,
    text: &'a str,
    path: Vec<String>,
}

impl Parser<'_> {
    fn table(&mut self, values: toml::Table, spans: &DeTable<'_>) -> Table {
        let lines: BTreeMap<&str, (usize, &DeValue<'_>)> =
            spans.iter().map(|(key, value)| (key.get_ref().as_ref(), (key.span().start, value.get_ref()))).collect();
        let mut table = Table::new();
        for (key, value) in values {
            let (start, span) = lines.get(key.as_str()).map_or((0, None), |(start, span)| (*start, Some(*span)));
            self.path.push(quoted(&key));
            let place = Place { file: self.file.clone(), line: line_of(self.text, start), key: self.path.join(".") };
            let kind = match (value, span.and_then(DeValue::as_table)) {
                (Value::Table(inner), Some(spans)) => Kind::Table(self.table(inner, spans)),
                (value, _) => Kind::Value(value),
            };
            self.path.pop();
            table.insert(key, Node { place, kind });
        }
        table
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

/// A key as TOML wants it.
pub(crate) fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare {
        return key.to_owned();
    }
    // Not as values are written: those may take several lines, which keys may not.
    let mut quoted = String::from('"');
    for c in key.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Puts `from` over `to`: tables key by key, everything else whole.
pub(crate) fn merge(to: &mut Table, from: Table) {
    for (key, node) in from {
        match (to.get_mut(&key), node) {
            (Some(Node { kind: Kind::Table(old), .. }), Node { kind: Kind::Table(new), .. }) => merge(old, new),
            (_, node) => {
                to.insert(key, node);
            }
        }
    }
}

/// Takes a node out; its empty parents stay.
pub(crate) fn take(table: &mut Table, path: &[&str]) -> Option<Node> {
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return table.remove(*first);
    }
    match &mut table.get_mut(*first)?.kind {
        Kind::Table(inner) => take(inner, rest),
        Kind::Value(_) => None,
    }
}

/// Looks at a node.
pub(crate) fn get<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Node> {
    let (first, rest) = path.split_first()?;
    let node = table.get(*first)?;
    match (&node.kind, rest.is_empty()) {
        (_, true) => Some(node),
        (Kind::Table(inner), false) => get(inner, rest),
        (Kind::Value(_), false) => None,
    }
}

/// Puts a node where `path` says, under what is there already.
pub(crate) fn put(table: &mut Table, path: &[&str], node: Node) {
    let Some((first, rest)) = path.split_first() else { return };
    let node = rest.iter().rev().fold(node, |node, key| {
        let place = node.place.clone();
        Node { place, kind: Kind::Table(Table::from([((*key).to_owned(), node)])) }
    });
    let mut under = Table::from([((*first).to_owned(), node)]);
    std::mem::swap(table, &mut under);
    merge(table, under);
}

/// Every value, with its whole key.
pub(crate) fn leaves(table: &Table) -> Vec<(&Place, &Value)> {
    let mut all = Vec::new();
    for node in table.values() {
        match &node.kind {
            Kind::Table(inner) => all.extend(leaves(inner)),
            Kind::Value(value) => all.push((&node.place, value)),
        }
    }
    all
}
