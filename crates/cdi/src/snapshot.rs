//! Finds devices in what the directories held when they were read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_oci::oci_spec::runtime::Spec;

use crate::apply::{self, Host};
use crate::error::{Error, Result};
use crate::model::{Device, Edits, Specification};
use crate::name::QualifiedName;

/// Most unusable files that an error speaks of.
const MAX_NOTES: usize = 3;

/// A file: what it says, or why it counts for nothing.
pub(crate) type Content = std::result::Result<Specification, String>;

/// One directory, with the files that were in it.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) files: Vec<(PathBuf, Arc<Content>)>,
    /// Why it could not be read.
    pub(crate) error: Option<String>,
}

/// What the directories held at one moment, in the order of their precedence, the lowest first.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) directories: Vec<Directory>,
}

/// A device and the file that has it.
#[derive(Clone, Copy)]
struct Found<'a> {
    file: &'a Path,
    spec: &'a Specification,
    device: &'a Device,
}

impl Snapshot {
    /// Edits `spec` for the devices, each given once, in their order; what a file says for all its devices is done once.
    ///
    /// # Errors
    /// When one of them is not there, or cannot be given; `spec` is then partly edited and not to be used.
    pub fn inject(&self, spec: &mut Spec, names: &[String], host: &Host<'_>) -> Result<()> {
        let (mut found, mut missing, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            match self.find(name) {
                Ok(Some(device)) => found.push((name, device)),
                Ok(None) => missing.push(name.clone()),
                Err(reason) => {
                    missing.push(name.clone());
                    reasons.push(reason);
                }
            }
        }
        if !missing.is_empty() {
            return Err(Error::Unresolved { reason: self.reason(reasons, &missing), devices: missing });
        }
        let mut files = BTreeSet::new();
        for (name, device) in found {
            let mut edit = |edits: &Edits| {
                apply::apply(spec, edits, host).map_err(|reason| Error::Edit {
                    device: name.clone(),
                    file: device.file.display().to_string(),
                    reason,
                })
            };
            if files.insert(device.file) {
                edit(&device.spec.container_edits)?;
            }
            edit(&device.device.container_edits)?;
        }
        Ok(())
    }

    /// The device of the last directory that has it; nobody can say which of two in one directory is meant.
    fn find(&self, name: &str) -> std::result::Result<Option<Found<'_>>, String> {
        let Ok(wanted) = QualifiedName::parse(name) else { return Ok(None) };
        for directory in self.directories.iter().rev() {
            let mut all = directory.files.iter().filter_map(|(file, content)| {
                let spec = content.as_ref().as_ref().ok().filter(|spec| spec.kind == wanted.kind)?;
                let device = spec.devices.iter().find(|device| device.name == wanted.device)?;
                Some(Found { file, spec, device })
            });
            let Some(first) = all.next() else { continue };
            return match all.next() {
                None => Ok(Some(first)),
                Some(second) => {
                    let (one, other) = (first.file.display(), second.file.display());
                    Err(format!("{name} is in both {one} and {other}"))
                }
            };
        }
        Ok(None)
    }

    /// What a person has to know to find out why.
    fn reason(&self, mut conflicts: Vec<String>, missing: &[String]) -> String {
        if conflicts.len() < missing.len() {
            let paths: Vec<String> = self.directories.iter().map(|d| d.path.display().to_string()).collect();
            let looked = match paths.is_empty() {
                true => "no directory is configured (cdi_spec_dirs)".to_owned(),
                false => format!("not in {}", paths.join(", ")),
            };
            conflicts.insert(0, looked);
        }
        let mut unusable = self.unusable();
        let notes: Vec<String> = unusable.by_ref().take(MAX_NOTES).collect();
        if !notes.is_empty() {
            let more = unusable.count();
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            conflicts.push(format!("not usable: {}{more}", notes.join(", ")));
        }
        conflicts.join("; ")
    }

    fn unusable(&self) -> impl Iterator<Item = String> {
        self.directories.iter().flat_map(|directory| {
            let whole = directory.error.iter().map(|e| format!("{} ({e})", directory.path.display()));
            whole.chain(directory.files.iter().filter_map(|(path, content)| {
                content.as_ref().as_ref().err().map(|e| format!("{} ({e})", path.display()))
            }))
        })
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
