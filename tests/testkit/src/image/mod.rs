//! Images in memory: trees become layers, layers and a configuration become an
//! image, and an image is pushed to a registry or written to a file.
//!
//! Nothing here checks what it is given: the hostile tests need images that
//! lie. What is honest by default is what [`ImageBuilder::build`] computes.

mod archive;
mod build;
mod conformance;
mod index;
mod large;
mod layer;
mod local;
mod push;
mod suite;
mod tree;

pub use archive::{write_docker_archive, write_oci_dir, write_oci_tar};
pub use build::{Dialect, Image, ImageBuilder};
pub use conformance::conformance;
pub use index::{Index, Platform};
pub use large::large;
pub use layer::{Compression, Layer};
pub use local::{compile, dynamic, find_busybox};
pub use push::Pusher;
pub use suite::{Named, suite};
pub use tar::EntryType;
pub use tree::Tree;

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Bytes with the media type and digest under which a registry serves them.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Media type as a descriptor names it.
    pub media_type: String,
    /// `sha256:` and 64 hex digits; of `data` unless a test made it lie.
    pub digest: String,
    /// The content.
    pub data: Bytes,
}

impl Blob {
    /// A blob with its true digest.
    pub fn new(media_type: &str, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self { media_type: media_type.to_owned(), digest: digest(&data), data }
    }

    /// The OCI descriptor of this blob.
    pub fn descriptor(&self) -> serde_json::Value {
        serde_json::json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.data.len() })
    }
}

/// `sha256:` and the hex digest of the bytes.
pub fn digest(data: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(data)))
}
