//! Layers: an archive, compressed or not, under the media type that says so.

use super::{Blob, Dialect, Tree, digest};
use anyhow::Result;
use bytes::Bytes;
use std::io::Write;

/// How a layer's archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One gzip member.
    Gzip,
    /// A gzip member for each chunk of this many bytes, as pigz and eStargz write.
    GzipMembers(usize),
    /// One zstd frame.
    Zstd,
}

impl Compression {
    /// The compressed form of the bytes.
    pub fn apply(self, bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => gzip(bytes)?,
            Self::GzipMembers(size) => {
                let mut out = Vec::new();
                for chunk in bytes.chunks(size.max(1)) {
                    out.extend_from_slice(&gzip(chunk)?);
                }
                out
            }
            Self::Zstd => zstd::stream::encode_all(bytes, 3)?,
        })
    }

    /// The media type of a layer compressed like this.
    pub fn media_type(self, dialect: Dialect) -> &'static str {
        match (dialect, self) {
            (Dialect::Oci, Self::None) => "application/vnd.oci.image.layer.v1.tar",
            (Dialect::Oci, Self::Gzip | Self::GzipMembers(_)) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Dialect::Oci, Self::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Dialect::Docker, Self::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Dialect::Docker, Self::Gzip | Self::GzipMembers(_)) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Dialect::Docker, Self::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// A layer as a registry serves it, with its uncompressed form's digest.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What the manifest names and the registry serves.
    pub blob: Blob,
    /// Digest of the archive, as the image's configuration names it.
    pub diff_id: String,
    /// The archive, where it is known.
    pub archive: Bytes,
}

impl Layer {
    /// A gzip layer of the tree.
    pub fn gzip(tree: Tree) -> Result<Self> {
        Self::compressed(tree.tar(), Compression::Gzip)
    }

    /// A layer of the archive under the OCI media type.
    pub fn compressed(archive: impl Into<Bytes>, compression: Compression) -> Result<Self> {
        let archive = archive.into();
        let blob = Blob::new(compression.media_type(Dialect::Oci), compression.apply(&archive)?);
        Ok(Self { blob, diff_id: digest(&archive), archive })
    }

    /// A layer that is whatever the blob says, with the diff ID that is claimed.
    pub fn claimed(blob: Blob, diff_id: impl Into<String>) -> Self {
        Self { blob, diff_id: diff_id.into(), archive: Bytes::new() }
    }

    /// The same layer under another media type.
    pub fn with_media_type(mut self, media_type: &str) -> Self {
        media_type.clone_into(&mut self.blob.media_type);
        self
    }
}
