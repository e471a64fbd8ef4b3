//! Where things are below `<root>/images`.
//!
//! ```text
//! layers/<diff id>/{fs,manifest,meta.json}   unpacked layers; count only with a record
//! chains/<chain id>/fs                       corrections stacked right above a layer, see `chain`
//! blobs/<digest>                             layers of images that were loaded from a file, as they came
//! containers/<id>/{rootfs.json,<n>/{upper,work}}
//! staging/…, trash/…                         being made, being deleted; `trash/<unique>.<digest>` was a layer or a
//!                                            chain, which containers may still read
//! empty                                      the only lower directory of an image without layers
//! ```

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cricket_model::{ContainerId, Digest};

use crate::unpack::remove_tree;
use crate::{Error, Result};

/// The directories of one store.
#[derive(Debug)]
pub(crate) struct Dirs {
    pub(crate) base: PathBuf,
    /// Tells this process' names from an earlier one's, whose leftovers may still be there.
    tag: String,
    serial: AtomicU64,
}

impl Dirs {
    /// Makes what is missing. `root` gets mode 0700 and `state` 0711, whatever they had.
    pub(crate) fn open(root: &Path, state: &Path) -> Result<Self> {
        make(root, 0o700)?;
        make(state, 0o711)?;
        let base = root.join("images");
        make(&base, 0o700)?;
        for name in ["layers", "chains", "blobs", "containers", "staging", "trash"] {
            make(&base.join(name), 0o700)?;
        }
        make(&base.join("empty"), 0o755)?;
        let tag = ContainerId::generate().short().to_owned();
        Ok(Self { base, tag, serial: AtomicU64::new(0) })
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.base.join("layers").join(diff_id.hex())
    }

    pub(crate) fn chain(&self, chain_id: &Digest) -> PathBuf {
        self.base.join("chains").join(chain_id.hex())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.base.join("blobs").join(digest.hex())
    }

    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.base.join("containers").join(id.as_str())
    }

    /// A name below `staging` that nobody has.
    pub(crate) fn staging(&self) -> PathBuf {
        self.base.join("staging").join(self.unique())
    }

    /// Renames something into the trash, answering where it is now. Nothing there: `None`.
    pub(crate) fn discard(&self, path: &Path) -> Result<Option<PathBuf>> {
        let mut name = self.unique();
        if let Some(digest) = path.file_name().and_then(|n| hex_digest(n.to_str()?)) {
            name = format!("{name}.{}", digest.hex());
        }
        let trash = self.base.join("trash").join(name);
        match std::fs::rename(path, &trash) {
            Ok(()) => Ok(Some(trash)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("move aside", path, e)),
        }
    }

    /// The layer or chain that something in the trash was.
    pub(crate) fn discarded(name: &str) -> Option<Digest> {
        name.rsplit_once('.').and_then(|(_, hex)| hex_digest(hex))
    }

    fn unique(&self) -> String {
        format!("{}-{}", self.tag, self.serial.fetch_add(1, Ordering::Relaxed))
    }
}

fn hex_digest(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

/// A directory below `staging`; deleted when dropped, unless it was published.
#[derive(Debug)]
pub(crate) struct Staged(Option<PathBuf>);

impl Staged {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        std::fs::create_dir(&path).map_err(|e| Error::io("make", &path, e))?;
        Ok(Self(Some(path)))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Renames it to its place, which must be free.
    pub(crate) fn publish(mut self, place: &Path) -> Result<()> {
        std::fs::rename(self.path(), place).map_err(|e| Error::io("rename to its place", place, e))?;
        self.0 = None;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            delete_later(path);
        }
    }
}

/// Deletes a tree without keeping an async thread from its work.
pub(crate) fn delete_later(path: PathBuf) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || delete(&path))),
        Err(_) => delete(&path),
    }
}

/// Deletes a tree; what cannot be deleted is reported and stays for the next start.
pub(crate) fn delete(path: &Path) {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
    let done = std::fs::File::open(parent).and_then(|dir| Ok(remove_tree(&dir, name)?));
    if let Err(e) = done {
        tracing::warn!(path = %path.display(), error = %e, "cannot delete; tried again at the next start");
    }
}

/// Names in a directory.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let failed = |e| Error::io("list", path, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        found.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(found)
}

fn make(path: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|e| Error::io("make", path, e))?;
    let found = std::fs::metadata(path).map_err(|e| Error::io("look up", path, e))?.permissions().mode() & 0o7777;
    // The umask may have narrowed what was asked for; an operator may have widened it.
    if found != mode {
        let wanted = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, wanted).map_err(|e| Error::io("change the mode of", path, e))?;
    }
    Ok(())
}
