//! Opening the store, and collecting what nothing names.
//!
//! A layer goes in three steps: its record is deleted, its directory renamed into the trash, the trash deleted. After a
//! crash between them the next start sees a directory without a record, which counts for nothing, and collects it.

use std::sync::{Arc, Weak};
use std::time::Instant;

use cricket_model::Digest;
use cricket_process::fault::point;
use cricket_store::{Batch, Store};
use tokio::sync::{Notify, Semaphore};

use super::dirs::{Dirs, delete, names};
use super::record::{ImageRecord, LayerRecord, publish};
use super::rootfs;
use super::state::{Layer, State, Stored};
use super::{Inner, blocking};
use crate::registry::Registry;
use crate::{Error, ImageStoreConfig, Result};

pub(crate) async fn open(config: ImageStoreConfig, records: Store) -> Result<Arc<Inner>> {
    let (root, state) = (config.root.clone(), config.state.clone());
    let (dirs, containers, images, layers) = {
        let records = records.clone();
        blocking("open the image store", move || {
            let dirs = Arc::new(Dirs::open(&root, &state)?);
            let containers = rootfs::load(&dirs)?;
            Ok((dirs, containers, records.list::<ImageRecord>()?, records.list::<LayerRecord>()?))
        })
        .await?
    };
    let mut state = State::new(containers);
    for (key, record) in layers {
        if let Ok(diff_id) = key.parse::<Digest>() {
            state.layers.insert(diff_id, Layer { record, durable: true, finished: None });
        }
    }
    let inner = Arc::new(Inner {
        registry: Registry::new(config.registry.clone()),
        slots: Arc::new(Semaphore::new(config.max_parallel_layers.max(1))),
        parked: Arc::new(super::parked::Parked::new(config.keep_unfinished)),
        config,
        records,
        dirs,
        state: std::sync::Mutex::new(state),
        catalog: tokio::sync::Mutex::new(()),
        pulls: super::flight::Flights::default(),
        fetches: super::flight::Flights::default(),
        collect: Arc::new(Notify::new()),
        mapping: std::sync::OnceLock::new(),
    });
    for (key, record) in images {
        let shown = key.parse::<Digest>().map_err(|e| Error::BadImage { what: key.clone(), detail: e.to_string() });
        let shown = shown.and_then(|id| publish(&id, &record, inner.is_pinned(&record)).map(|image| (id, image)));
        match shown {
            Ok((id, image)) => {
                let stored = Stored::new(record, Arc::new(image));
                inner.state().images.insert(id, stored);
            }
            Err(e) => tracing::error!(image = key, error = %e, "an image's record makes no sense; it is kept"),
        }
    }
    let leftovers = inner.clone();
    blocking("move leftovers aside", move || leftovers.discard_unknown()).await?;
    // The directories of an earlier process: nobody of this one makes names that are there now.
    let mut old = Vec::new();
    for place in ["staging", "trash"] {
        let dir = inner.dirs.base.join(place);
        for name in names(&dir)? {
            match Dirs::discarded(&name).filter(|_| place == "trash") {
                // A layer that was replaced while containers had it: their mounts are there still.
                Some(was) => inner.state().replaced.push((was, dir.join(name))),
                None => old.push(dir.join(name)),
            }
        }
    }
    old.extend(inner.state().take_unread());
    drop(tokio::task::spawn_blocking(move || old.iter().for_each(|path| delete(path))));
    inner.collect.notify_one();
    tokio::spawn(collector(Arc::downgrade(&inner), inner.collect.clone()));
    Ok(inner)
}

/// Collects whenever something may have become unreferenced, and when a layer's time is over. Ends with the store.
async fn collector(store: Weak<Inner>, wake: Arc<Notify>) {
    let mut next: Option<Instant> = None;
    loop {
        match next {
            None => wake.notified().await,
            Some(at) => {
                let _ = tokio::time::timeout_at(at.into(), wake.notified()).await;
            }
        }
        let Some(inner) = store.upgrade() else { return };
        next = match inner.collect_now().await {
            Ok(next) => next,
            Err(e) => {
                tracing::error!(error = %e, "cannot collect unreferenced layers");
                None
            }
        };
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.collect.notify_one();
    }
}

impl Inner {
    /// One collection. Answers when the next layer that is only kept for a retry is due.
    pub(super) async fn collect_now(&self) -> Result<Option<Instant>> {
        let catalog = self.catalog.lock().await;
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let (mut layers, mut batch) = (Vec::new(), Batch::new());
        let (named, blobs, unread) = {
            let mut state = self.state();
            let unread = state.take_unread();
            let named = state.referenced();
            let keep = self.config.keep_unfinished;
            state.layers.retain(|diff_id, layer| {
                let due = layer.finished.filter(|_| !layer.durable).map(|at| at + keep);
                if named.contains(diff_id) {
                    return true;
                }
                if let Some(due) = due.filter(|due| *due > now) {
                    next = Some(next.map_or(due, |n| n.min(due)));
                    return true;
                }
                layers.push(diff_id.clone());
                false
            });
            let kept = state.images.values().filter(|s| s.record.keeps_blobs);
            let blobs: Vec<String> =
                kept.flat_map(|s| s.record.layers.iter().map(|l| l.blob.hex().to_owned())).collect();
            (named, blobs, unread)
        };
        for diff_id in &layers {
            batch.delete::<LayerRecord>(diff_id.as_str());
        }
        self.records.commit(batch).await?;
        if !layers.is_empty() {
            point("layers.forgotten");
        }
        let dirs = self.dirs.clone();
        let trash = blocking("collect", move || {
            let mut trash = unread;
            for diff_id in &layers {
                tracing::info!(layer = %diff_id, "unreferenced layer collected");
                trash.extend(dirs.discard(&dirs.layer(diff_id))?);
            }
            for name in names(&dirs.base.join("chains"))? {
                let known = format!("sha256:{name}").parse::<Digest>().is_ok_and(|d| named.contains(&d));
                if !known {
                    trash.extend(dirs.discard(&dirs.base.join("chains").join(name))?);
                }
            }
            for name in names(&dirs.base.join("blobs"))? {
                let leased = format!("sha256:{name}").parse::<Digest>().is_ok_and(|d| named.contains(&d));
                if !leased && !blobs.contains(&name) {
                    trash.extend(dirs.discard(&dirs.base.join("blobs").join(name))?);
                }
            }
            Ok(trash)
        })
        .await?;
        drop(catalog);
        blocking("delete", move || {
            trash.iter().for_each(|path| delete(path));
            Ok(())
        })
        .await?;
        Ok(next)
    }

    /// Moves directories without a record aside: a crash left them, nobody knows whether they are whole.
    fn discard_unknown(&self) -> Result<()> {
        for name in names(&self.dirs.base.join("layers"))? {
            let known = format!("sha256:{name}").parse::<Digest>();
            if !known.is_ok_and(|diff_id| self.state().layers.contains_key(&diff_id)) {
                self.dirs.discard(&self.dirs.base.join("layers").join(name))?;
            }
        }
        let named = self.state().referenced();
        for name in names(&self.dirs.base.join("chains"))? {
            let known = format!("sha256:{name}").parse::<Digest>();
            if !known.is_ok_and(|chain_id| named.contains(&chain_id)) {
                self.dirs.discard(&self.dirs.base.join("chains").join(name))?;
            }
        }
        Ok(())
    }
}
