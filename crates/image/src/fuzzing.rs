//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cricket_model::Digest;
use sha2::{Digest as _, Sha256};

pub use crate::registry::fuzzing::{
    Endpoint, Shape, challenges, credentials, document, endpoints, image_config, node_credentials, range_matches,
    redirect,
};
use crate::store::read_archive;
use crate::unpack::{self, Expected, Limits, ManifestKind};
use crate::{Result, host_platform};

/// Bounds under which a fuzzed layer is unpacked.
pub const MAX_ENTRIES: u64 = 1000;
/// Bytes of its inflated archive.
pub const MAX_BYTES: u64 = 4 << 20;
/// Directories and links that it only implies.
pub const MAX_NOTED: usize = 1000;

fn limits() -> Limits {
    Limits {
        entries: MAX_ENTRIES,
        bytes: MAX_BYTES,
        header: 64 << 10,
        xattrs: 4 << 10,
        noted: MAX_NOTED,
        noted_bytes: 256 << 10,
        zstd_window_log: 21,
    }
}

/// What a layer's manifest says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The kind, as the manifest has it: `file`, `dir`, …
    pub kind: String,
    /// Size of a file.
    pub size: Option<u64>,
    /// Target of a symbolic link.
    pub link: Option<Vec<u8>>,
}

/// Unpacks a layer into `dir`, promising the digests that it really has. Answers the bytes of file content and what
/// the manifest says in the end of each path.
///
/// # Errors
/// What is wrong with it.
pub fn unpack(blob: &[u8], dir: &Path) -> Result<(u64, BTreeMap<Vec<u8>, Made>)> {
    let limits = limits();
    let digest = |bytes: &[u8]| Digest::from_sha256(Sha256::digest(bytes).into());
    let mut tar = Vec::new();
    // Where inflating fails the digest does not matter.
    let _ = unpack::inflate(blob, &limits).map(|mut inflated| inflated.read_to_end(&mut tar));
    let expected = Expected { blob: Some(digest(blob)), size: Some(blob.len() as u64), diff_id: digest(&tar) };
    let done = unpack::unpack(blob, dir, &expected, &limits)?;
    let mut made = BTreeMap::new();
    unpack::read_manifest(&dir.join("manifest"), |entry| {
        let path = unpack::name_bytes(&entry.p);
        let below =
            |p: &[u8]| p.strip_prefix(path.as_slice()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')));
        if entry.k == ManifestKind::Gone {
            made.retain(|p: &Vec<u8>, _| !below(p));
        } else {
            let kind = format!("{:?}", entry.k).to_lowercase();
            made.insert(path, Made { kind, size: entry.s, link: entry.l.as_deref().map(unpack::name_bytes) });
        }
        Ok(())
    })?;
    assert_eq!(unpack::read_meta(dir)?, done.meta, "the metadata survive the disk");
    Ok((done.meta.bytes, made))
}

/// Reads an archive of images by way of `staging`, and calls `each` with the names, layers' files and layers' digests
/// of each image while they are there.
///
/// # Errors
/// What is wrong with it.
pub fn load(
    archive: &Path,
    staging: PathBuf,
    mut each: impl FnMut(Vec<String>, Vec<PathBuf>, Vec<Digest>),
) -> Result<()> {
    let (images, _archive) = read_archive(archive, staging, &host_platform())?;
    for (image, files) in images {
        let names = image.tags.into_iter().chain(image.repo_digests).collect();
        each(names, files.into_values().collect(), image.layers.into_iter().map(|l| l.blob).collect());
    }
    Ok(())
}
