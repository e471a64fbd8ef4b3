//! Paths as text: container paths are cleaned lexically here and resolved inside the root by whoever mounts.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result, shown};

/// PATH_MAX of Linux, with the final NUL.
const MAX: usize = 4096;

/// Refuses what no path can be: empty, too long, with a NUL.
pub(crate) fn check(field: &str, path: &str) -> Result<()> {
    if path.is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    if path.len() >= MAX || path.contains('\0') {
        return Err(Error::invalid(field, format!("{} is not a path", shown(path))));
    }
    Ok(())
}

/// An absolute path without `.`, `..` and doubled slashes; `..` at the root stays there, as in the kernel.
pub(crate) fn clean_absolute(field: &str, path: &str) -> Result<PathBuf> {
    check(field, path)?;
    if !path.starts_with('/') {
        return Err(Error::invalid(field, format!("{} is not absolute", shown(path))));
    }
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// How many components an absolute path has.
pub(crate) fn depth(path: &Path) -> usize {
    path.components().count()
}
