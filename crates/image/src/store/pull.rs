//! Pulling: resolve, get the layers, correct the chain, sync, record.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cricket_model::Digest;
use cricket_process::fault::point;
use sha2::{Digest as _, Sha256};

use super::layers::Origin;
use super::record::{ImageRecord, LayerRef};
use super::state::Stored;
use super::{Inner, blocking};
use crate::image::chain_ids;
use crate::reference::Reference;
use crate::registry::{KnownContent, Resolved};
use crate::{AuthConfig, Error, Image, ImageConfiguration, Result};

/// The most layers that an image may have.
const MAX_LAYERS: usize = 200;

/// Pulls that may share one download: those of one reference with the same credentials, since others would get what
/// only those may have.
pub(crate) type Key = (String, [u8; 32]);

/// What the repository of that name gave before: another one's documents are not offered, or a registry could have
/// its own tag name them.
struct Known<'a> {
    inner: &'a Inner,
    repository: String,
}

impl KnownContent for Known<'_> {
    fn blob(&self, digest: &Digest) -> Option<Bytes> {
        let state = self.inner.state();
        let prefix = format!("{}@", self.repository);
        let from_here = |s: &&Stored| s.record.repo_digests.iter().any(|d| d.starts_with(&prefix));
        if let Some(stored) = state.images.get(digest).filter(from_here) {
            return Some(stored.image.config_json.clone());
        }
        let found = state.images.values().filter(from_here).find(|s| s.manifest.as_ref() == Some(digest))?;
        found.record.manifest.as_ref().map(|m| Bytes::copy_from_slice(m.as_bytes()))
    }
}

/// Everything about an image but its layers' content.
pub(crate) struct Described {
    pub(crate) id: Digest,
    pub(crate) config: String,
    pub(crate) manifest: Option<String>,
    pub(crate) layers: Vec<LayerRef>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) repo_digests: BTreeSet<String>,
    pub(crate) keeps_blobs: bool,
}

impl Inner {
    pub(crate) async fn pull(self: &Arc<Self>, reference: &str, auth: Option<AuthConfig>) -> Result<Arc<Image>> {
        let reference = Reference::parse(reference)?;
        let key = (reference.canonical(), fingerprint(auth.as_ref()));
        let name = reference.canonical();
        let work = || {
            let inner = self.clone();
            async move { inner.pull_once(reference, auth).await }
        };
        self.pulls.join(key, &name, work).await.0
    }

    async fn pull_once(self: Arc<Self>, reference: Reference, auth: Option<AuthConfig>) -> Result<Arc<Image>> {
        let known = Known { inner: &self, repository: reference.name() };
        let resolved = self.registry.resolve(&reference, auth.as_ref(), &self.config.platform, Some(&known)).await?;
        self.config.verifiers.check(&resolved).await?;
        point("pull.resolved");
        let origin = Origin::Registry(resolved.source.clone());
        let done = self.install(describe(&resolved)?, &origin).await;
        if done.is_err() {
            self.collect.notify_one();
        }
        done
    }

    /// Makes the image usable: layers in place, chain corrected, all of it on the disk, recorded.
    pub(crate) async fn install(self: &Arc<Self>, image: Described, origin: &Origin) -> Result<Arc<Image>> {
        let (_, diff_ids) = ImageConfiguration::parse(image.config.as_bytes(), image.id.as_str())?;
        let named: Vec<Digest> = image.layers.iter().map(|l| l.diff_id.clone()).collect();
        if diff_ids != named {
            let detail = "the manifest's layers and the config's diff ids differ".to_owned();
            return Err(Error::BadImage { what: image.id.to_string(), detail });
        }
        if diff_ids.len() > MAX_LAYERS {
            let what = format!("image {} with {} layers", image.id, diff_ids.len());
            return Err(Error::TooLarge { what, bound: format!("{MAX_LAYERS} layers") });
        }
        let chain = chain_ids(&diff_ids);
        let _lease = self.state().lease(diff_ids.iter().chain(&chain));
        // A pull that is dropped leaves its finished layers behind for a while: someone has to come for them.
        let _unfinished = CollectOnDrop(self.clone());
        self.ensure_layers(&image.layers, origin).await?;
        let fixups = self.ensure_chain(&diff_ids).await?;
        point("pull.layers");
        self.sync(&diff_ids, !fixups.is_empty()).await?;
        point("pull.synced");
        let bytes: u64 = {
            let state = self.state();
            diff_ids.iter().filter_map(|d| state.layers.get(d)).map(|l| l.record.bytes).sum()
        };
        let documents = image.config.len() + image.manifest.as_ref().map_or(0, String::len);
        let record = ImageRecord {
            size: bytes + documents as u64,
            config: image.config,
            manifest: image.manifest,
            tags: image.tags,
            repo_digests: image.repo_digests,
            layers: image.layers,
            fixups,
            pulled_at: 0,
            pinned: None,
            keeps_blobs: image.keeps_blobs,
        };
        let added = self.add_image(image.id, record).await?;
        point("pull.recorded");
        Ok(added)
    }

    /// One sync of the whole file system, if anything is not known to be on the disk.
    async fn sync(&self, diff_ids: &[Digest], fixups: bool) -> Result<()> {
        let pending = {
            let state = self.state();
            diff_ids.iter().any(|d| state.layers.get(d).is_none_or(|l| !l.durable))
        };
        if !pending && !fixups {
            return Ok(());
        }
        self.sync_all().await
    }

    /// Brings everything written so far to the disk, in one call for the whole file system.
    pub(crate) async fn sync_all(&self) -> Result<()> {
        let base = self.dirs.base.clone();
        blocking("sync", move || {
            let dir = std::fs::File::open(&base).map_err(|e| Error::io("open", &base, e))?;
            rustix::fs::syncfs(&dir).map_err(|e| Error::io("sync the file system of", &base, e))
        })
        .await
    }
}

/// Wakes the collector when an installation ends, however it ends.
struct CollectOnDrop(Arc<Inner>);

impl Drop for CollectOnDrop {
    fn drop(&mut self) {
        self.0.collect.notify_one();
    }
}

fn describe(resolved: &Resolved) -> Result<Described> {
    let reference = &resolved.reference;
    let text = |bytes: &Bytes, what: &str| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::BadImage { what: reference.canonical(), detail: format!("its {what} is not UTF-8") })
    };
    let layers = resolved.layers.iter().map(|l| LayerRef {
        blob: l.digest.clone(),
        size: l.size,
        media_type: l.media_type.clone(),
        diff_id: l.diff_id.clone(),
    });
    let tags = if reference.digest().is_none() { Some(reference.canonical()) } else { None };
    Ok(Described {
        id: resolved.config.digest().clone(),
        config: text(resolved.config.bytes(), "config")?,
        manifest: Some(text(resolved.manifest.bytes(), "manifest")?),
        layers: layers.collect(),
        tags: tags.into_iter().collect(),
        repo_digests: BTreeSet::from([reference.with_digest(resolved.digest.clone()).canonical()]),
        keeps_blobs: false,
    })
}

fn fingerprint(auth: Option<&AuthConfig>) -> [u8; 32] {
    let mut hash = Sha256::new();
    if let Some(auth) = auth {
        let AuthConfig { username, password, auth, server_address, identity_token, registry_token } = auth;
        for field in [username, password, auth, server_address, identity_token, registry_token] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
    }
    hash.finalize().into()
}
