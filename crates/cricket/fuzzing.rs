//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::doctor;

/// The effective configuration of one file's text as `cricket config` prints it; what it imports is not read.
///
/// # Errors
/// What is wrong with the text.
pub fn config(text: &str) -> Result<String, String> {
    Config::of_text(text).map(|config| config.to_toml()).map_err(|e| e.to_string())
}

/// The mount points below `state` in a table of proc_pid_mountinfo(5), each with the pod or container it is of.
pub fn mounts(table: &[u8], state: &Path) -> Vec<(PathBuf, String)> {
    doctor::mounts_in(table, state)
}
