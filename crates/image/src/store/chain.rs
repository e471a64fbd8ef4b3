//! What stacking layers alone gets wrong, corrected in a directory of its own.
//!
//! overlayfs takes a directory's metadata from the topmost layer that has it. A layer whose archive only implies `tmp/`
//! would so hide the 1777 of the layer below. And a hard link to a file of a lower layer has no file to link to. Both
//! are put right in `chains/<chain id>/fs`, which is stacked right above the layer that needs it:
//!
//! ```text
//! … │ layer i+1 │ chain i │ layer i │ chain i-1 │ layer i-1 │ …
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_model::Digest;
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid};

use super::dirs::{Dirs, Staged};
use super::{Inner, blocking};
use crate::image::chain_ids;
use crate::unpack::{LayerMeta, OPAQUE, copy_xattrs, name_bytes, read_meta};
use crate::{Error, Result};

impl Inner {
    /// Makes the corrections that this chain of layers needs, and answers the chain IDs that have some. The caller
    /// holds a lease on layers and chain IDs.
    pub(crate) async fn ensure_chain(self: &Arc<Self>, diff_ids: &[Digest]) -> Result<BTreeSet<Digest>> {
        let (dirs, diff_ids) = (self.dirs.clone(), diff_ids.to_vec());
        // Two that build the same chain would be in each other's way: the lock is held until this one is done.
        let lease = self.state().lease(diff_ids.iter().chain(&chain_ids(&diff_ids)));
        let correct = |inner: Arc<Self>| async move {
            let _lease = lease;
            let _catalog = inner.catalog.lock().await;
            blocking("correct the chain of layers", move || build(&dirs, &diff_ids)).await
        };
        self.complete("correct the chain of layers", correct).await
    }
}

/// One directory of a stack.
struct Sheet {
    fs: PathBuf,
    implied: BTreeSet<Vec<u8>>,
    opaque_root: bool,
}

fn build(dirs: &Arc<Dirs>, diff_ids: &[Digest]) -> Result<BTreeSet<Digest>> {
    let mut fixups = BTreeSet::new();
    let mut below: Vec<Sheet> = Vec::new();
    for (diff_id, chain_id) in diff_ids.iter().zip(chain_ids(diff_ids)) {
        let dir = dirs.layer(diff_id);
        let meta = read_meta(&dir)?;
        let implied: BTreeSet<Vec<u8>> = meta.implied.iter().map(|p| name_bytes(p)).filter(|p| !p.is_empty()).collect();
        let own = Sheet { fs: dir.join("fs"), implied, opaque_root: meta.opaque_root };
        let place = dirs.chain(&chain_id);
        if !place.join("fs").is_dir() {
            let staged = Staged::create(dirs.staging())?;
            if correct(&staged.path().join("fs"), &own, &meta, &below)? {
                dirs.discard(&place)?;
                staged.publish(&place)?;
            }
        }
        below.insert(0, own);
        if place.join("fs").is_dir() {
            fixups.insert(chain_id);
            below.insert(0, Sheet { fs: place.join("fs"), implied: BTreeSet::new(), opaque_root: false });
        }
    }
    Ok(fixups)
}

/// Fills `out` with the corrections right above `own`; `false` when there are none.
fn correct(out: &Path, own: &Sheet, meta: &LayerMeta, below: &[Sheet]) -> Result<bool> {
    let mut any = false;
    for path in &own.implied {
        if let Some(real) = find_dir(below, path, own)
            && differs(&real)?
        {
            make_dirs(out, path, own, below)?;
            any = true;
        }
    }
    for (path, target) in &meta.lower_links {
        let (path, target) = (name_bytes(path), name_bytes(target));
        let missing = || Error::BadImage {
            what: own.fs.display().to_string(),
            detail: format!("{}: hard link to {}, which no layer has", path.escape_ascii(), target.escape_ascii()),
        };
        let source = find(below, &target).filter(|f| !f.is_dir).ok_or_else(missing)?;
        link_lower(out, &path, &target, &source.path, own, below)?;
        any = true;
    }
    Ok(any)
}

/// Copies a lower file to its own place above, so that both names are one file again, and links it.
fn link_lower(out: &Path, path: &[u8], target: &[u8], source: &Path, own: &Sheet, below: &[Sheet]) -> Result<()> {
    let copy = out.join(OsStr::from_bytes(target));
    let link = out.join(OsStr::from_bytes(path));
    let meta = std::fs::symlink_metadata(source).map_err(|e| Error::io("look up", source, e))?;
    make_dirs(out, parent(path), own, below)?;
    // A target that this layer deletes stays deleted: then the link is the file.
    let hidden = own.fs.join(OsStr::from_bytes(target)).symlink_metadata().is_ok();
    let first = if hidden { &link } else { &copy };
    if !hidden {
        make_dirs(out, parent(target), own, below)?;
    }
    if first.symlink_metadata().is_err() {
        if meta.is_file() {
            std::fs::copy(source, first).map_err(|e| Error::io("copy", source, e))?;
        } else if meta.is_symlink() {
            let text = std::fs::read_link(source).map_err(|e| Error::io("read the link", source, e))?;
            std::os::unix::fs::symlink(text, first).map_err(|e| Error::io("link", first, e))?;
        } else {
            let kind = rustix::fs::FileType::from_raw_mode(meta.mode());
            let mode = rustix::fs::Mode::from_raw_mode(meta.mode() & 0o7777);
            let device = if meta.file_type().is_fifo() { 0 } else { meta.rdev() };
            rustix::fs::mknodat(CWD, first, kind, mode, device).map_err(|e| Error::io("make", first, e))?;
        }
        copy_attributes(source, first)?;
    }
    if !hidden && link.symlink_metadata().is_err() {
        std::fs::hard_link(&copy, &link).map_err(|e| Error::io("link", &link, e))?;
    }
    Ok(())
}

/// Makes `path` and what leads to it in `out`, each with the metadata that it shall have: this layer's if it says
/// some, else those of the layers below.
fn make_dirs(out: &Path, path: &[u8], own: &Sheet, below: &[Sheet]) -> Result<()> {
    if out.symlink_metadata().is_err() {
        std::fs::create_dir(out).map_err(|e| Error::io("make", out, e))?;
    }
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
    for end in ends.chain((!path.is_empty()).then_some(path.len())) {
        let prefix = &path[..end];
        let place = out.join(OsStr::from_bytes(prefix));
        if place.symlink_metadata().is_ok() {
            continue;
        }
        std::fs::create_dir(&place).map_err(|e| Error::io("make", &place, e))?;
        let here = own.fs.join(OsStr::from_bytes(prefix));
        let real = !own.implied.contains(prefix) && here.symlink_metadata().is_ok_and(|m| m.is_dir());
        match if real { Some(here) } else { find_dir(below, prefix, own) } {
            Some(source) => copy_attributes(&source, &place)?,
            None => std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755))
                .map_err(|e| Error::io("change the mode of", &place, e))?,
        }
    }
    Ok(())
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(b"", |at| &path[..at])
}

/// What a path is in a stack.
struct Found {
    path: PathBuf,
    is_dir: bool,
}

/// The directory that gives its metadata to `path` below `own`, unless `own` hides it.
fn find_dir(below: &[Sheet], path: &[u8], own: &Sheet) -> Option<PathBuf> {
    if own.opaque_root || hides(own, path) {
        return None;
    }
    find(below, path).filter(|f| f.is_dir).map(|f| f.path)
}

/// Whether a sheet has an opaque directory on the way to `path`, or there.
fn hides(sheet: &Sheet, path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]);
    ends.into_iter().any(|end| opaque(&sheet.fs.join(OsStr::from_bytes(&path[..end]))))
}

fn opaque(path: &Path) -> bool {
    let mut value = [0u8; 4];
    rustix::fs::lgetxattr(path, OPAQUE, &mut value[..]).is_ok_and(|n| &value[..n] == b"y")
}

/// Looks a path up as overlayfs would, the topmost sheet first; implied directories give way to real ones below.
fn find(stack: &[Sheet], path: &[u8]) -> Option<Found> {
    let mut fallback: Option<Found> = None;
    'sheets: for sheet in stack {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]);
        let mut hidden_below = sheet.opaque_root;
        for end in ends {
            let here = sheet.fs.join(OsStr::from_bytes(&path[..end]));
            let Ok(meta) = here.symlink_metadata() else {
                if hidden_below {
                    return fallback;
                }
                continue 'sheets;
            };
            if meta.file_type().is_char_device() && meta.rdev() == 0 {
                return fallback;
            }
            if !meta.is_dir() {
                let file = end == path.len() && fallback.is_none();
                return if file { Some(Found { path: here, is_dir: false }) } else { fallback };
            }
            hidden_below |= opaque(&here);
            if end == path.len() {
                if !sheet.implied.contains(path) {
                    return Some(Found { path: here, is_dir: true });
                }
                fallback.get_or_insert(Found { path: here, is_dir: true });
                if hidden_below {
                    return fallback;
                }
            }
        }
    }
    fallback
}

/// Whether a directory is not what unpacking makes of an implied one.
fn differs(dir: &Path) -> Result<bool> {
    let meta = std::fs::symlink_metadata(dir).map_err(|e| Error::io("look up", dir, e))?;
    let mut names = [0u8; 4096];
    let attributes = match rustix::fs::llistxattr(dir, &mut names[..]) {
        Ok(n) => names[..n].split(|b| *b == 0).any(|n| !n.is_empty() && n != OPAQUE.as_bytes()),
        Err(rustix::io::Errno::RANGE) => true,
        Err(_) => false,
    };
    Ok(meta.mode() & 0o7777 != 0o755 || meta.uid() != 0 || meta.gid() != 0 || attributes)
}

/// Owner, mode, extended attributes and times, of one thing onto another.
pub(crate) fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("copy attributes to", to, e);
    let meta = std::fs::symlink_metadata(from).map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    rustix::fs::chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed(e.into()))?;
    if !meta.is_symlink() {
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(meta.mode() & 0o7777)).map_err(failed)?;
        copy_xattrs(from, to).map_err(failed)?;
    }
    let time = |s, n| Timespec { tv_sec: s, tv_nsec: n };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed(e.into()))
}
