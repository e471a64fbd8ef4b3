//! What resolving a reference gives.

use bytes::Bytes;
use cricket_model::Digest;
use sha2::{Digest as _, Sha256};

use super::RegistryError;
use super::source::Source;
use crate::reference::Reference;

/// A small blob whose bytes were hashed and compared: only [`VerifiedBlob::check`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBlob {
    digest: Digest,
    bytes: Bytes,
}

impl VerifiedBlob {
    /// Hashes `bytes` and compares with `expected`; `what` names the blob in the error.
    ///
    /// # Errors
    /// [`RegistryError::DigestMismatch`].
    pub fn check(bytes: Bytes, expected: &Digest, what: &str) -> Result<Self, RegistryError> {
        let blob = Self::of(bytes);
        if blob.digest == *expected {
            return Ok(blob);
        }
        Err(RegistryError::DigestMismatch { what: what.to_owned(), expected: expected.clone(), actual: blob.digest })
    }

    /// Hashes bytes for which nobody promised a digest, as those that a tag names.
    pub fn of(bytes: Bytes) -> Self {
        Self { digest: Digest::from_sha256(Sha256::digest(&bytes).into()), bytes }
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// How a layer's tar archive is packed, from the descriptor's media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// gzip, perhaps of several members.
    Gzip,
    /// Zstandard (RFC 8878), perhaps of several frames.
    Zstd,
}

/// One layer of an image, the lowest first in [`Resolved::layers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDescriptor {
    /// Digest of the blob as the registry stores it.
    pub digest: Digest,
    /// Size of that blob in bytes; at most 64 GiB.
    pub size: u64,
    /// Media type as the manifest gives it.
    pub media_type: String,
    /// What `media_type` says about the packing.
    pub compression: Compression,
    /// Digest of the unpacked tar archive, as the image's config claims.
    pub diff_id: Digest,
}

/// What an image must run on (image-spec, "Image Index", `platform`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `GOOS` spelling.
    pub os: String,
    /// `GOARCH` spelling.
    pub architecture: String,
    /// CPU variant, such as `v8`; empty when there is none.
    pub variant: String,
}

/// An image that a registry has for this platform, with its manifest and config verified.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What was asked for.
    pub reference: Reference,
    /// Digest of the document that the reference names: the index's where there is one. Repo digests use it.
    pub digest: Digest,
    /// Media type of that document.
    pub media_type: String,
    /// Size of that document in bytes.
    pub size: u64,
    /// The platform's manifest.
    pub manifest: VerifiedBlob,
    /// The image's config; its digest is the image's ID.
    pub config: VerifiedBlob,
    /// The layers, the lowest first; at most 200.
    pub layers: Vec<LayerDescriptor>,
    /// Where the layers can be fetched from; hand it to `Registry::fetch_blob`.
    pub source: Source,
}
