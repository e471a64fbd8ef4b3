//! Reading and writing control files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use crate::{Error, Result};

/// Most of a control file that is ever read.
const MAX_FILE: u64 = 4 << 20;

pub(crate) fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|e| Error::io("read", path, e))?;
    Ok(text)
}

/// As [`read`], with nothing for a file that this kernel does not have.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes the value with one write(2), as control files want it.
pub(crate) fn write(path: &Path, value: &str) -> Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).map_err(|e| Error::io("open", path, e))?;
    file.write_all(value.as_bytes()).map_err(|e| Error::io("write", path, e))
}

pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The number after `key ` in a flat keyed file (kernel's cgroup-v2.rst, "Format").
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
