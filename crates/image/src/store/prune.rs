//! Removing the images that nobody uses, at an operator's word.

use std::collections::HashSet;
use std::sync::Arc;

use cricket_model::Digest;
use cricket_store::Batch;

use super::Inner;
use super::record::ImageRecord;
use super::rootfs::Rootfs;
use super::state::State;
use crate::{Image, Result};

/// What [`crate::ImageStore::prune`] removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The images, the oldest first.
    pub images: Vec<Arc<Image>>,
    /// How many layers nothing names without them.
    pub layers: usize,
    /// Bytes that those layers take.
    pub bytes: u64,
}

impl Inner {
    pub(crate) async fn prune(self: &Arc<Self>, tagged: bool) -> Result<Pruned> {
        self.complete("prune images", move |inner| async move {
            let pruned = inner.forget_unused(tagged).await?;
            if !pruned.images.is_empty() {
                // What was freed is free when the answer comes; the collector has to know of layers that are due later.
                inner.collect_now().await?;
                inner.collect.notify_one();
            }
            Ok(pruned)
        })
        .await
    }

    async fn forget_unused(&self, tagged: bool) -> Result<Pruned> {
        let _catalog = self.catalog.lock().await;
        let pruned = self.prunable(tagged);
        let mut batch = Batch::new();
        for image in &pruned.images {
            batch.delete::<ImageRecord>(image.id.as_str());
        }
        self.records.commit(batch).await?;
        let mut state = self.state();
        for image in &pruned.images {
            state.images.remove(&image.id);
            tracing::info!(image = %image.id, names = ?image.tags, "unused image removed");
        }
        Ok(pruned)
    }

    pub(crate) fn prunable(&self, tagged: bool) -> Pruned {
        unused(&self.state(), tagged)
    }
}

/// Images without a pin that no container is made of or has mounted, and whose layers nobody is about to use; without a
/// tag, unless `tagged`.
fn unused(state: &State, tagged: bool) -> Pruned {
    let used: HashSet<&Digest> = state.containers.values().flat_map(Rootfs::records).map(|r| &r.image).collect();
    let fits = |image: &Image| {
        // A container that is being made, or a pull that will say that it has this image.
        let leased = image.diff_ids.last().is_some_and(|top| state.leased(top));
        !image.pinned && !leased && !used.contains(&image.id) && (tagged || image.tags.is_empty())
    };
    let (gone, kept): (Vec<_>, Vec<_>) = state.images.values().partition(|stored| fits(&stored.image));
    let mut named: HashSet<&Digest> = kept.iter().flat_map(|s| s.record.layers.iter().map(|l| &l.diff_id)).collect();
    let mut pruned = Pruned::default();
    for layer in gone.iter().flat_map(|s| &s.record.layers) {
        let freed = !state.in_use(&layer.diff_id) && !state.leased(&layer.diff_id);
        if let Some(found) = state.layers.get(&layer.diff_id).filter(|_| freed && named.insert(&layer.diff_id)) {
            pruned.layers += 1;
            pruned.bytes += found.record.bytes;
        }
    }
    pruned.images = gone.into_iter().map(|stored| stored.image.clone()).collect();
    pruned.images.sort_by(|a, b| a.pulled_at.cmp(&b.pulled_at).then_with(|| a.id.cmp(&b.id)));
    pruned
}
