//! Getting layers: each is fetched and unpacked once, whoever asks and how often.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cricket_model::Digest;
use cricket_process::fault::point;
use futures_util::future::try_join_all;
use tokio::task::JoinHandle;

use super::dirs::{Staged, delete_later};
use super::parked::{self, Moving, Transfer};
use super::record::{LayerRecord, LayerRef};
use super::state::Layer;
use super::{Inner, blocking};
use crate::registry::{Compression, LayerDescriptor, Source};
use crate::unpack::{self, Expected, LayerMeta, Unpacked};
use crate::{Error, Result};

/// Where a layer's blob can be had.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A registry, with the credentials of the pull.
    Registry(Source),
    /// A file of each blob.
    Files(FileOf),
}

/// The file of a layer's blob.
pub(crate) type FileOf = Arc<dyn Fn(&LayerRef) -> Option<PathBuf> + Send + Sync>;

impl Inner {
    /// Has all these layers in place, the largest fetched first.
    pub(crate) async fn ensure_layers(self: &Arc<Self>, layers: &[LayerRef], origin: &Origin) -> Result<()> {
        let mut missing: Vec<&LayerRef> = layers.iter().filter(|layer| !self.has_layer(layer)).collect();
        missing.sort_by(|a, b| b.size.cmp(&a.size).then(a.diff_id.cmp(&b.diff_id)));
        missing.dedup_by(|a, b| a.diff_id == b.diff_id && a.blob == b.blob);
        try_join_all(missing.into_iter().map(|layer| self.ensure_layer(layer, origin))).await?;
        Ok(())
    }

    /// Whether this very pair of blob and diff ID was verified here and its directory is there.
    fn has_layer(&self, layer: &LayerRef) -> bool {
        let known = self.state().layers.get(&layer.diff_id).is_some_and(|l| l.record.blobs.contains(&layer.blob));
        known && self.layer_is_whole(&layer.diff_id)
    }

    /// A look at the directory, no more: content is `verify`'s business.
    pub(crate) fn layer_is_whole(&self, diff_id: &Digest) -> bool {
        let dir = self.dirs.layer(diff_id);
        dir.join("fs").is_dir() && dir.join("manifest").is_file() && dir.join("meta.json").is_file()
    }

    async fn ensure_layer(self: &Arc<Self>, layer: &LayerRef, origin: &Origin) -> Result<()> {
        let key = (layer.blob.clone(), layer.diff_id.clone());
        let what = layer.blob.as_str();
        let work = || self.clone().fetch_and_publish(layer.clone(), origin.clone(), false);
        match self.fetches.join(key.clone(), what, work).await {
            // Someone else's credentials or mirror failed: that says nothing about ours.
            (Err(_), false) => self.fetches.join(key, what, work).await.0,
            (done, _) => done,
        }
    }

    /// Fetches a layer again and puts it in the place of a damaged one.
    pub(crate) async fn replace_layer(self: &Arc<Self>, layer: &LayerRef, origin: &Origin) -> Result<()> {
        self.clone().fetch_and_publish(layer.clone(), origin.clone(), true).await
    }

    /// What an earlier pull left may not be what this one's registry has: then once more, from the first byte.
    async fn fetch_and_publish(self: Arc<Self>, layer: LayerRef, origin: Origin, replace: bool) -> Result<()> {
        match self.try_fetch(&layer, &origin, replace, true).await? {
            Fetched::Done => return Ok(()),
            Fetched::Doubtful(error) => {
                tracing::info!(layer = %layer.blob, %error, "a resumed layer is not whole, it is fetched from its start");
            }
        }
        match self.try_fetch(&layer, &origin, replace, false).await? {
            Fetched::Done => Ok(()),
            Fetched::Doubtful(error) => Err(error),
        }
    }

    async fn try_fetch(
        self: &Arc<Self>,
        layer: &LayerRef,
        origin: &Origin,
        replace: bool,
        resume: bool,
    ) -> Result<Fetched> {
        let what = format!("layer {}", layer.blob);
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| Error::Ended { what: what.clone() })?;
        // Another download of it may have ended since the caller looked.
        if !replace && self.has_layer(layer) {
            return Ok(Fetched::Done);
        }
        let (unpacking, doubtful) = match origin {
            Origin::Registry(source) => self.download(layer, source, resume).await?,
            Origin::Files(file_of) => {
                let path = file_of(layer).ok_or_else(|| Error::LayerLost {
                    layer: layer.diff_id.clone(),
                    detail: "the archive does not have it".to_owned(),
                })?;
                let (staging, expected) = (self.dirs.staging(), expected(layer));
                let unpacking = tokio::task::spawn_blocking(move || {
                    let file = std::fs::File::open(&path).map_err(|e| Error::io("open", &path, e))?;
                    unpack_into(file, staging, &expected)
                });
                (unpacking, false)
            }
        };
        // All of it is here: the rest is done also for nobody, and the next who asks finds it.
        let blob = layer.blob.clone();
        let publish = |inner: Arc<Self>| async move {
            let _slot = slot;
            let unpacked = match unpacking.await {
                Ok(unpacked) => unpacked,
                Err(e) => Err(Error::Ended { what: format!("layer {blob}: {e}") }),
            };
            let done = match unpacked {
                Ok(unpacked) => inner.publish(unpacked, replace).await,
                Err(e) => Err(e),
            };
            if matches!(done, Err(Error::NoSpace { .. })) {
                inner.parked.clear();
            }
            match done {
                Ok(()) => Ok(Fetched::Done),
                Err(e @ (Error::Mismatch { .. } | Error::BadLayer { .. } | Error::TooLarge { .. })) if doubtful => {
                    Ok(Fetched::Doubtful(e))
                }
                Err(e) => Err(e),
            }
        };
        self.complete(&what, publish).await
    }

    /// Sends a layer's bytes, or those that are missing of it, to a thread that unpacks them; answers that thread when it
    /// has all of them, or none will come, and whether its first bytes came with an earlier pull.
    async fn download(
        &self,
        layer: &LayerRef,
        source: &Source,
        resume: bool,
    ) -> Result<(JoinHandle<Result<Finished>>, bool)> {
        let descriptor = LayerDescriptor {
            digest: layer.blob.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
            // What it is packed with is told by its first bytes.
            compression: Compression::None,
            diff_id: layer.diff_id.clone(),
        };
        let begin = || {
            let (sender, feed) = unpack::feed();
            let (staging, expected) = (self.dirs.staging(), expected(layer));
            let unpacking = tokio::task::spawn_blocking(move || unpack_into(feed, staging, &expected));
            Transfer { sender, unpacking, offset: 0 }
        };
        let key = parked::Key::new(layer, source.reference());
        if !resume {
            drop(self.parked.take(&key));
        }
        let mut moving = Moving::new(&self.parked, key, begin);
        let resumed = moving.offset() > 0;
        let mut stream = self.registry.fetch_blob(source, &descriptor, moving.offset()).await?;
        loop {
            let (came, last) = match stream.chunk().await {
                Ok(Some(bytes)) => (Ok(bytes), false),
                Ok(None) => break,
                Err(e) => (Err(e.into()), true),
            };
            if !moving.send(came).await || last {
                break;
            }
            point("layer.bytes");
        }
        let unpacking = moving.arrived().await;
        let unpacking = unpacking.ok_or_else(|| Error::Ended { what: format!("layer {}", layer.blob) })?;
        Ok((unpacking, resumed))
    }

    /// Renames an unpacked layer into its place. It counts for others at once; it is recorded, and thereby durable,
    /// with the first image that needs it. To be run to its end ([`Inner::complete`]): the directory would be there and
    /// not known.
    async fn publish(&self, (unpacked, staged): Finished, replace: bool) -> Result<()> {
        let _catalog = self.catalog.lock().await;
        let diff_id = unpacked.diff_id.clone();
        let known = self.state().layers.get(&diff_id).cloned();
        if let Some(mut layer) = known.filter(|_| !replace && self.layer_is_whole(&diff_id)) {
            // The same content came in another blob.
            layer.durable &= !layer.record.blobs.insert(unpacked.blob);
            self.state().layers.insert(diff_id, layer);
            return Ok(());
        }
        let (target, dirs) = (self.dirs.layer(&diff_id), self.dirs.clone());
        let in_use = self.state().in_use(&diff_id);
        let old = blocking("publish", move || {
            point("layer.unpacked");
            let old = dirs.discard(&target)?;
            staged.publish(&target)?;
            point("layer.placed");
            Ok(old)
        })
        .await?;
        match old {
            // Mounts of running containers still read it; it goes with the last of them.
            Some(old) if in_use => {
                tracing::info!(path = %old.display(), "a replaced layer stays for its containers");
                self.state().replaced.push((diff_id.clone(), old));
            }
            Some(old) => delete_later(old),
            None => {}
        }
        let mut record = layer_record(&unpacked.meta);
        record.blobs.insert(unpacked.blob);
        let layer = Layer { record, durable: false, finished: Some(Instant::now()) };
        self.state().layers.insert(diff_id, layer);
        Ok(())
    }
}

/// How fetching a layer ended.
enum Fetched {
    Done,
    /// What came is not the layer, and only the rest of it came with this pull.
    Doubtful(Error),
}

/// Blob digest and diff ID.
pub(crate) type Pair = (Digest, Digest);

fn expected(layer: &LayerRef) -> Expected {
    Expected { blob: Some(layer.blob.clone()), size: Some(layer.size), diff_id: layer.diff_id.clone() }
}

fn layer_record(meta: &LayerMeta) -> LayerRecord {
    LayerRecord {
        blobs: std::collections::BTreeSet::new(),
        bytes: meta.bytes,
        inodes: meta.inodes,
        implied_root: meta.implied.first().is_some_and(String::is_empty),
        opaque_root: meta.opaque_root,
    }
}

/// A layer in staging, and what was found out about it.
pub(crate) type Finished = (Unpacked, Staged);

/// Unpacks into a fresh directory, which is deleted if that fails.
fn unpack_into(blob: impl std::io::Read, staging: PathBuf, expected: &Expected) -> Result<Finished> {
    let staged = Staged::create(staging)?;
    let unpacked = unpack::unpack(blob, staged.path(), expected, &unpack::Limits::default())?;
    Ok((unpacked, staged))
}
