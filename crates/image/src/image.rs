//! What is known of an image on this node.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use cricket_model::Digest;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use crate::store::LayerRef;
use crate::{Error, Result};

/// An image whose layers are on this node. Values are a snapshot; a later pull makes a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The config's digest: the image's ID in CRI.
    pub id: Digest,
    /// Complete references with a tag, sorted. Empty for an image whose tags moved away.
    pub tags: Vec<String>,
    /// Complete references with a digest, sorted.
    pub repo_digests: Vec<String>,
    /// Bytes that its unpacked layers and its documents take; shared layers count for each image.
    pub size: u64,
    /// Chain ID of all its layers (image-spec, "Layer ChainID"); the config's digest if it has none.
    pub chain_id: Digest,
    /// The layers' diff IDs, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// What the config says about running it.
    pub config: ImageConfiguration,
    /// The config as it came.
    pub config_json: Bytes,
    /// Whether the kubelet shall not collect it.
    pub pinned: bool,
    /// When it was pulled or loaded first.
    pub pulled_at: SystemTime,
    /// Where its layers come from, should one be lost.
    pub(crate) layers: Vec<LayerRef>,
}

impl Image {
    /// The digest reference that a container made from this image reports: that of `used` if it is one of this
    /// image's repositories, else any, else the ID.
    pub fn reference_for(&self, used: &str) -> String {
        let name = crate::reference::Reference::parse(used).map(|r| r.name());
        let of = |d: &&String| name.as_ref().is_ok_and(|n| d.split('@').next() == Some(n.as_str()));
        let found = self.repo_digests.iter().find(of).or(self.repo_digests.first());
        found.cloned().unwrap_or_else(|| self.id.to_string())
    }
}

/// The parts of an image's config that decide how it runs (image-spec, "Image Configuration"). All of it is the
/// image author's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfiguration {
    /// `GOARCH` of its programs.
    pub architecture: String,
    /// `GOOS` of its programs.
    pub os: String,
    /// CPU variant.
    pub variant: String,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program if there is no entry point.
    pub cmd: Vec<String>,
    /// User, as `user`, `uid`, `user:group` and so on; not yet read.
    pub user: String,
    /// Working directory; empty means `/`.
    pub working_dir: String,
    /// Paths that want a volume, sorted.
    pub volumes: Vec<String>,
    /// Signal that asks it to stop, `SIGTERM` or a number; empty when not given.
    pub stop_signal: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "null_default")]
    architecture: String,
    #[serde(default, deserialize_with = "null_default")]
    os: String,
    #[serde(default, deserialize_with = "null_default")]
    variant: String,
    #[serde(default, deserialize_with = "null_default")]
    config: Run,
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    #[serde(deserialize_with = "null_default")]
    user: String,
    #[serde(deserialize_with = "null_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    working_dir: String,
    #[serde(deserialize_with = "null_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null_default")]
    stop_signal: String,
    #[serde(deserialize_with = "null_default")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "null_default")]
    diff_ids: Vec<Digest>,
}

/// Go writes `null` for empty lists and maps.
fn null_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl ImageConfiguration {
    /// Reads a config document and the diff IDs of its layers, the lowest first.
    ///
    /// # Errors
    /// [`Error::BadImage`] when it is not a config.
    pub fn parse(json: &[u8], what: &str) -> Result<(Self, Vec<Digest>)> {
        let bad = |e: serde_json::Error| Error::BadImage { what: what.to_owned(), detail: format!("config: {e}") };
        let document: Document = serde_json::from_slice(json).map_err(bad)?;
        let run = document.config;
        let config = Self {
            architecture: document.architecture,
            os: document.os,
            variant: document.variant,
            env: run.env,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            user: run.user,
            working_dir: run.working_dir,
            volumes: run.volumes.into_keys().collect(),
            stop_signal: run.stop_signal,
            labels: run.labels,
        };
        Ok((config, document.rootfs.diff_ids))
    }
}

/// The chain ID of every prefix of `diff_ids` (image-spec, "Layer ChainID").
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::from_sha256(Sha256::digest(format!("{below} {diff_id}")).into()),
        };
        chain.push(next);
    }
    chain
}
