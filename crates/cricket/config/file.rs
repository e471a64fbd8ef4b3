//! Configuration files: the first one and those that it imports.
//!
//! As in containerd: imports are read breadth first after the file that names them, relative to its directory, and
//! what is read later counts; `*` in a name matches any number of files, none included.

use std::collections::{BTreeSet, VecDeque};
use std::fs::DirEntry;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use glob::Pattern;
use toml::Value;

use super::error::{ConfigError, Result};
use super::node::{self, Kind, Node, Table};
use super::versions;

/// Largest file, in bytes.
const MAX_SIZE: u64 = 1 << 20;
/// Most files.
const MAX_FILES: usize = 200;
/// Most files that one pattern may match.
const MAX_MATCHES: usize = 1000;

/// Everything that the file and its imports say, in containerd's newest layout, and the files that were read.
pub(crate) fn load(path: &Path) -> Result<(Table, Vec<PathBuf>)> {
    let mut all = Table::new();
    let mut read = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pending = VecDeque::from([clean(path)]);
    while let Some(path) = pending.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > MAX_FILES {
            return Err(ConfigError::Bounds { path, reason: format!("more than {MAX_FILES} files are imported") });
        }
        let mut table = node::parse(&Arc::from(path.as_path()), &text(&path)?)?;
        let imports = table.remove("imports");
        versions::normalise(&mut table)?;
        node::merge(&mut all, table);
        if let Some(imports) = imports {
            pending.extend(resolve(&path, imports)?);
        }
        read.push(path);
    }
    Ok((all, read))
}

/// What one file's text says, in containerd's newest layout, without its imports.
pub(crate) fn of_text(text: &str) -> Result<Table> {
    let mut table = node::parse(&Arc::from(Path::new("config.toml")), text)?;
    table.remove("imports");
    versions::normalise(&mut table)?;
    Ok(table)
}

/// A regular file's text, if it is not larger than any configuration.
pub(super) fn text(path: &Path) -> Result<String> {
    let io = |source| ConfigError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(ConfigError::Bounds { path: path.to_owned(), reason: "is no regular file".into() });
    }
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(ConfigError::Bounds { path: path.to_owned(), reason: format!("is larger than {MAX_SIZE} bytes") });
    }
    Ok(text)
}

fn resolve(parent: &Path, imports: Node) -> Result<Vec<PathBuf>> {
    let wrong = |reason: &str| ConfigError::Value { place: imports.place.clone(), reason: reason.to_owned() };
    let Kind::Value(Value::Array(list)) = &imports.kind else { return Err(wrong("want a list of file names")) };
    let dir = parent.parent().unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for pattern in list {
        let pattern = pattern.as_str().ok_or_else(|| wrong("want a list of file names"))?;
        let path = clean(&dir.join(pattern));
        if !pattern.contains('*') {
            files.push(path);
            continue;
        }
        files.extend(glob(&path).map_err(|reason| wrong(&reason))?);
    }
    Ok(files)
}

/// Without `.` and `..`, as the text says: a file that is named in two ways is read once.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some_and(|n| n != "..") => drop(clean.pop()),
            Component::ParentDir if clean.has_root() => {}
            part => clean.push(part),
        }
    }
    clean
}

/// The files that match, sorted; a `*` does not cross a `/`.
fn glob(pattern: &Path) -> std::result::Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let part = part.as_os_str();
        let text = part.to_str().ok_or("a pattern has to be UTF-8")?;
        if !text.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|p| p.push(part));
            continue;
        }
        let matcher = Pattern::new(text).map_err(|e| e.to_string())?;
        let mut next = Vec::new();
        for dir in found {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            let fits = |e: &DirEntry| e.file_name().to_str().is_some_and(|name| matcher.matches(name));
            next.extend(entries.flatten().filter(fits).map(|e| e.path()));
            if next.len() > MAX_MATCHES {
                return Err(format!("more than {MAX_MATCHES} files match"));
            }
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.exists());
    Ok(found)
}
