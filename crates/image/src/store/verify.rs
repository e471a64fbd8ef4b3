//! Comparing layers with their manifests, and fetching damaged ones again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use cricket_model::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};

use super::overlay::open_dir;
use super::{Damage, Inner, blocking};
use crate::unpack::{
    ManifestEntry, ManifestKind, SPARSE, hash_file, hash_sparse, is_whiteout, name_bytes, read_manifest, resolve,
};
use crate::{Error, Result};

/// Lines of a report about one layer.
const MAX_DETAILS: usize = 100;

impl Inner {
    pub(crate) async fn verify(self: &Arc<Self>) -> Result<Vec<Damage>> {
        let (layers, _lease) = {
            let mut state = self.state();
            let layers: Vec<Digest> = state.layers.keys().cloned().collect();
            let lease = state.lease(layers.iter());
            (layers, lease)
        };
        let mut found = Vec::new();
        for diff_id in layers {
            let dir = self.dirs.layer(&diff_id);
            let details = blocking("verify a layer", move || Ok(check(&dir))).await?;
            if !details.is_empty() {
                found.push(Damage { diff_id, details });
            }
        }
        // Images whose layer is not even known any more.
        let lost: Vec<Digest> = {
            let state = self.state();
            let named = state.images.values().flat_map(|s| s.record.layers.iter().map(|l| l.diff_id.clone()));
            named.filter(|d| !state.layers.contains_key(d)).collect()
        };
        for diff_id in lost {
            if !found.iter().any(|d| d.diff_id == diff_id) {
                found.push(Damage { diff_id, details: vec!["no record of this layer".to_owned()] });
            }
        }
        found.sort_by(|a, b| a.diff_id.cmp(&b.diff_id));
        Ok(found)
    }

    pub(crate) async fn heal(self: &Arc<Self>, damage: &[Damage]) -> Result<()> {
        let mut first = Ok(());
        for Damage { diff_id, .. } in damage {
            let done = self.heal_layer(diff_id).await;
            if let Err(e) = done {
                tracing::error!(layer = %diff_id, error = %e, "cannot fetch a damaged layer again");
                first = first.and(Err(e));
            }
        }
        first
    }

    async fn heal_layer(self: &Arc<Self>, diff_id: &Digest) -> Result<()> {
        let _lease = self.state().lease(std::iter::once(diff_id));
        let candidates: Vec<_> = {
            let state = self.state();
            let images = state.images.values().filter_map(|s| {
                let layer = s.record.layers.iter().find(|l| l.diff_id == *diff_id)?;
                Some((s.image.clone(), s.record.clone(), layer.clone()))
            });
            images.collect()
        };
        let mut last = Error::LayerLost { layer: diff_id.clone(), detail: "no image names it".to_owned() };
        for (image, record, layer) in candidates {
            let tried = async {
                let origin = self.origin_of(&image, std::slice::from_ref(&layer)).await?;
                self.replace_layer(&layer, &origin).await?;
                self.sync_all().await?;
                // Recording the image records its layers too.
                self.add_image(image.id.clone(), record).await
            };
            match tried.await {
                Ok(_) => return Ok(()),
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

/// What is wrong with a layer; empty when nothing is.
fn check(dir: &Path) -> Vec<String> {
    let mut details = Vec::new();
    if let Err(e) = compare(dir, &mut details) {
        details.push(e.to_string());
    }
    details
}

fn compare(dir: &Path, details: &mut Vec<String>) -> Result<()> {
    let mut entries: BTreeMap<Vec<u8>, ManifestEntry> = BTreeMap::new();
    read_manifest(&dir.join("manifest"), |entry| {
        let path = name_bytes(&entry.p);
        if entry.k == ManifestKind::Gone {
            let below = [path.as_slice(), b"/"].concat();
            entries.retain(|p, _| *p != path && !p.starts_with(&below));
        } else {
            entries.insert(path, entry);
        }
        Ok(())
    })?;
    let root: OwnedFd = open_dir(&dir.join("fs"))?.into();
    let mut note = |path: &[u8], what: &str| {
        if details.len() < MAX_DETAILS {
            details.push(format!("{}: {what}", path.escape_ascii()));
        }
    };
    for (path, entry) in &entries {
        if let Some(what) = compare_one(&root, path, entry) {
            note(path, what);
        }
    }
    let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let name: &[u8] = if path.is_empty() { b"." } else { &path };
        let Ok(fd) = lookup(&root, name, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
        let mut buf = Vec::with_capacity(32 << 10);
        let mut listing = RawDir::new(&fd, buf.spare_capacity_mut());
        while let Some(Ok(found)) = listing.next() {
            let name = found.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let below = if path.is_empty() { name.to_vec() } else { [&path, b"/".as_slice(), name].concat() };
            if !entries.contains_key(&below) {
                note(&below, "does not belong to the layer");
            }
            if found.file_type() == FileType::Directory {
                pending.push(below);
            }
        }
    }
    Ok(())
}

fn lookup(root: &OwnedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    resolve(root, OsStr::from_bytes(path), flags, how)
}

fn compare_one(root: &OwnedFd, path: &[u8], entry: &ManifestEntry) -> Option<&'static str> {
    let split = path.iter().rposition(|b| *b == b'/');
    let (parent, name) = split.map_or((b".".as_slice(), path), |at| (&path[..at], &path[at + 1..]));
    let name = if name.is_empty() { b"." } else { name };
    let Ok(dir) = lookup(root, parent, OFlags::PATH | OFlags::DIRECTORY) else {
        // Below a link of the layer itself the same file has its own line.
        return lookup_following(root, parent).err().map(|_| "is missing");
    };
    let Ok(stat) = rustix::fs::statat(&dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) else {
        return Some("is missing");
    };
    if !same_kind(&stat, entry.k) {
        return Some("is of another kind");
    }
    if matches!(entry.k, ManifestKind::Whiteout | ManifestKind::Hardlink) {
        return None;
    }
    if entry.k == ManifestKind::Symlink {
        let target = rustix::fs::readlinkat(&dir, OsStr::from_bytes(name), Vec::new()).ok()?;
        let same = entry.l.as_ref().is_some_and(|l| name_bytes(l) == target.as_bytes());
        return (!same).then_some("links elsewhere");
    }
    if stat.st_mode & 0o7777 != entry.m {
        return Some("has another mode");
    }
    if (stat.st_uid, stat.st_gid) != (entry.u, entry.g) {
        return Some("has another owner");
    }
    let (Some(size), Some(hash)) = (entry.s, &entry.h) else { return None };
    if u64::try_from(stat.st_size) != Ok(size) {
        return Some("has another size");
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::openat(&dir, OsStr::from_bytes(name), flags, Mode::empty()) else {
        return Some("cannot be opened");
    };
    let file = File::from(fd);
    let actual = if hash.starts_with(SPARSE) { hash_sparse(&file) } else { hash_file(&file) };
    match actual {
        Ok(actual) if actual == *hash => None,
        Ok(_) => Some("has other content"),
        Err(_) => Some("cannot be read"),
    }
}

fn lookup_following(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    resolve(root, OsStr::from_bytes(path), OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::IN_ROOT)
}

fn same_kind(stat: &Stat, kind: ManifestKind) -> bool {
    let found = FileType::from_raw_mode(stat.st_mode);
    match kind {
        ManifestKind::File => found == FileType::RegularFile,
        ManifestKind::Dir => found == FileType::Directory,
        ManifestKind::Symlink => found == FileType::Symlink,
        ManifestKind::Hardlink => found != FileType::Directory,
        ManifestKind::Char => found == FileType::CharacterDevice,
        ManifestKind::Block => found == FileType::BlockDevice,
        ManifestKind::Fifo => found == FileType::Fifo,
        ManifestKind::Whiteout => is_whiteout(stat),
        ManifestKind::Gone => false,
    }
}
