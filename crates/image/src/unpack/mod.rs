//! From a blob's bytes to a directory, in one pass.
//!
//! ```text
//! blob ▶ sha256 (blob digest) ▶ inflate ▶ sha256 (diff ID) ▶ tar headers ▶ files by directory fd
//! ```
//!
//! Everything read here is hostile. Invariants: nothing is created outside the layer's directory whatever names and
//! links say, also while someone else renames things in it; memory does not grow with the archive; the layer counts
//! only when both digests matched, which the caller learns from [`Unpacked`].

mod apply;
mod attrs;
mod inflate;
mod limits;
mod manifest;
mod members;
mod names;
mod pax;
mod source;
mod sparse;
mod tarball;
#[cfg(test)]
mod tests;
mod times;
mod tree;

use std::io::Read;
use std::path::Path;

use cricket_model::Digest;
use serde::{Deserialize, Serialize};

pub(crate) use attrs::copy_xattrs;
pub(crate) use inflate::open as inflate;
pub(crate) use limits::{Fault, Limits};
pub(crate) use manifest::{
    Entry as ManifestEntry, Kind as ManifestKind, SPARSE, hash_file, hash_sparse, read as read_manifest,
};
pub(crate) use members::{ARCHIVE_BYTES, Member, each_member};
pub(crate) use names::name_bytes;
pub(crate) use source::feed;
pub(crate) use tree::{OPAQUE, is_whiteout, remove_tree, resolve};

use crate::{Error, Result};

/// What is known of a layer besides its files; kept next to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerMeta {
    /// Bytes of file content.
    pub(crate) bytes: u64,
    /// Files, directories and so on; hard links count once.
    pub(crate) inodes: u64,
    /// Directories that the archive only implied: their metadata are the lower layers' if those have them.
    /// Escaped as in the manifest. The empty path is the root.
    pub(crate) implied: Vec<String>,
    /// Hard links to files of lower layers: (path, target).
    pub(crate) lower_links: Vec<(String, String)>,
    /// Nothing of the layers below shows through.
    pub(crate) opaque_root: bool,
}

/// A layer that was read to its end and whose blob is what its digest says.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) blob: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) meta: LayerMeta,
}

/// What a layer's blob has to be. `None`: whatever it is (archives that name no digest).
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) blob: Option<Digest>,
    pub(crate) size: Option<u64>,
    pub(crate) diff_id: Digest,
}

/// Unpacks `blob` into `dir/fs` and writes `dir/manifest` and `dir/meta.json`. Nothing is synced. On an error the
/// directory holds garbage.
pub(crate) fn unpack(blob: impl Read, dir: &Path, expected: &Expected, limits: &Limits) -> Result<Unpacked> {
    let label = expected.blob.as_ref().unwrap_or(&expected.diff_id).to_string();
    let mut hashed = source::Hashing::new(source::Sized::new(blob, expected.size));
    let outcome = inflate::open(&mut hashed, limits).and_then(|tar| {
        let mut tar = source::Hashing::new(tar);
        let meta = apply::apply(&mut tar, dir, limits)?;
        source::drain(&mut tar)?;
        Ok((tar.finish().0, meta))
    });
    let outcome = outcome.and_then(|done| source::drain(&mut hashed).map(|()| done));
    // A broken transfer says more than what it broke; a damaged blob more than where inflating it failed.
    let content = matches!(outcome, Ok(_) | Err(Fault::Bad(_)));
    if content && source::drain(&mut hashed).is_ok() {
        let (actual, size) = hashed.peek();
        let short = expected.size.is_some_and(|want| want != size);
        if expected.blob.as_ref().is_some_and(|want| *want != actual) || short {
            let want = match (&expected.blob, expected.size) {
                (Some(blob), Some(bytes)) => format!("{blob} ({bytes} bytes)"),
                (Some(blob), None) => blob.to_string(),
                (None, bytes) => format!("{} bytes", bytes.unwrap_or_default()),
            };
            return Err(Error::Mismatch {
                what: format!("layer {label}"),
                expected: want,
                actual: format!("{actual} ({size} bytes)"),
            });
        }
    }
    let (diff_id, meta) = outcome.map_err(|fault| fault.into_error(&label))?;
    if diff_id != expected.diff_id {
        return Err(Error::Mismatch {
            what: format!("diff id of layer {label}"),
            expected: expected.diff_id.to_string(),
            actual: diff_id.to_string(),
        });
    }
    write_meta(dir, &meta)?;
    Ok(Unpacked { blob: hashed.finish().0, diff_id, meta })
}

fn write_meta(dir: &Path, meta: &LayerMeta) -> Result<()> {
    let path = dir.join("meta.json");
    let text = serde_json::to_vec(meta).map_err(|e| Error::io("encode", &path, std::io::Error::other(e)))?;
    std::fs::write(&path, text).map_err(|e| Error::io("write", &path, e))
}

/// Reads what [`unpack`] noted about a layer.
pub(crate) fn read_meta(dir: &Path) -> Result<LayerMeta> {
    let path = dir.join("meta.json");
    let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    serde_json::from_slice(&text).map_err(|e| Error::io("decode", &path, std::io::Error::other(e)))
}
