//! What the records say of images, layers and containers.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cricket_model::Digest;
use cricket_store::Record;
use serde::{Deserialize, Serialize};

use crate::image::chain_ids;
use crate::{Image, ImageConfiguration, Result};

/// One layer of an image, as its manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRef {
    pub(crate) blob: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    pub(crate) diff_id: Digest,
}

/// An image; its key is the config's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) config: String,
    #[serde(default)]
    pub(crate) manifest: Option<String>,
    #[serde(default)]
    pub(crate) tags: BTreeSet<String>,
    #[serde(default)]
    pub(crate) repo_digests: BTreeSet<String>,
    pub(crate) layers: Vec<LayerRef>,
    /// Chain IDs that have a directory of corrections.
    #[serde(default)]
    pub(crate) fixups: BTreeSet<Digest>,
    pub(crate) size: u64,
    /// Milliseconds since 1970.
    pub(crate) pulled_at: u64,
    /// What an operator said; `None`: the configuration's patterns decide.
    #[serde(default)]
    pub(crate) pinned: Option<bool>,
    /// Whether its blobs are kept since there may be no registry that has them.
    #[serde(default)]
    pub(crate) keeps_blobs: bool,
}

impl Record for ImageRecord {
    const TABLE: &'static str = "images";
}

/// A layer that this node unpacked; its key is the diff ID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// The blobs that were seen to be this layer.
    pub(crate) blobs: BTreeSet<Digest>,
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// Its archive has no entry for the root directory.
    #[serde(default)]
    pub(crate) implied_root: bool,
    /// It hides everything below.
    #[serde(default)]
    pub(crate) opaque_root: bool,
}

impl Record for LayerRecord {
    const TABLE: &'static str = "layers";
}

/// An image as callers see it, made from its record.
pub(crate) fn publish(id: &Digest, record: &ImageRecord, pinned: bool) -> Result<Image> {
    let (config, _) = ImageConfiguration::parse(record.config.as_bytes(), id.as_str())?;
    let diff_ids: Vec<Digest> = record.layers.iter().map(|l| l.diff_id.clone()).collect();
    Ok(Image {
        id: id.clone(),
        tags: record.tags.iter().cloned().collect(),
        repo_digests: record.repo_digests.iter().cloned().collect(),
        size: record.size,
        chain_id: chain_ids(&diff_ids).pop().unwrap_or_else(|| id.clone()),
        diff_ids,
        config,
        config_json: Bytes::copy_from_slice(record.config.as_bytes()),
        pinned: record.pinned.unwrap_or(pinned),
        pulled_at: SystemTime::UNIX_EPOCH + Duration::from_millis(record.pulled_at),
        layers: record.layers.clone(),
    })
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
