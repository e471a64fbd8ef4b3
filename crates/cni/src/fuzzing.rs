//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use serde_json::Value;

use crate::attachment::Attachment;
use crate::cache::Record;
use crate::list::NetworkList;
use crate::result::AddResult;
use crate::{PluginError, Version, invoke, quantity};

/// A configuration list that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// Its name.
    pub name: String,
    /// The plugins' programs.
    pub programs: Vec<String>,
    /// What is recorded of it, which reads back to the same list.
    pub json: Value,
}

/// Reads a configuration list.
///
/// # Errors
/// What is wrong with it.
pub fn list(text: &[u8]) -> Result<List, String> {
    let list = NetworkList::parse(text)?;
    let programs = list.plugins.iter().map(|p| p.program.clone()).collect();
    Ok(List { name: list.name.clone(), programs, json: list.to_value() })
}

/// A plugin's output as a result for `asked`, written again for a plugin of version `to`.
///
/// # Errors
/// What is wrong with it.
pub fn result(output: &[u8], asked: Version, to: Version) -> Result<Value, String> {
    Ok(AddResult::parse(output, asked)?.as_version(to))
}

/// What a pod gets of a plugin's output for the interface `ifname`.
///
/// # Errors
/// What is wrong with it.
pub fn attachment(output: &[u8], asked: Version, ifname: &str) -> Result<Attachment, String> {
    Attachment::build(&[(ifname.to_owned(), AddResult::parse(output, asked)?)])
}

/// The error object in a plugin's output.
pub fn reported(output: &[u8]) -> Option<PluginError> {
    invoke::reported(output)
}

/// A Kubernetes quantity as a whole number.
pub fn quantity(text: &str) -> Option<i128> {
    quantity::parse(text)
}

/// A record of an attachment, read and written again.
///
/// # Errors
/// What is wrong with it.
pub fn record(text: &[u8]) -> Result<Value, String> {
    let record: Record = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    serde_json::to_value(&record).map_err(|e| e.to_string())
}
