//! The images: finding them, and changing their records.
//!
//! Every change is written durably first and seen by callers after; `catalog` is locked meanwhile, so that two changes
//! never start from the same old record. A change that was begun is completed, whoever asked for it and went away: the
//! thread that writes does it in any case ([`Inner::complete`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use cricket_model::Digest;
use cricket_store::Batch;

use super::Inner;
use super::record::{ImageRecord, LayerRecord, now, publish};
use super::state::Stored;
use crate::reference::Reference;
use crate::{Error, Image, Result};

impl Inner {
    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<_> = self.state().images.values().map(|s| s.image.clone()).collect();
        images.sort_by(|a, b| a.pulled_at.cmp(&b.pulled_at).then_with(|| a.id.cmp(&b.id)));
        images
    }

    /// References go before ID prefixes: `cafe` may be both.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Stored>> {
        let parsed = Reference::parse(name);
        let state = self.state();
        if let Ok(reference) = &parsed {
            let text = reference.canonical();
            let has = |s: &&Stored| s.record.tags.contains(&text) || s.record.repo_digests.contains(&text);
            if let Some(stored) = state.images.values().find(has) {
                return Ok(Some(stored.clone()));
            }
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let hex = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex && prefix.len() <= 64 {
            let mut found = state.images.iter().filter(|(id, _)| id.hex().starts_with(prefix));
            let first = found.next().map(|(_, stored)| stored.clone());
            return match found.count() {
                0 => Ok(first),
                more => Err(Error::Ambiguous { prefix: prefix.to_owned(), count: more + 1 }),
            };
        }
        parsed?;
        Ok(None)
    }

    /// Records an image whose layers are all in place and on the disk; tags it takes leave their old image. An image
    /// that is known keeps its names, its age and its pin.
    pub(crate) async fn add_image(self: &Arc<Self>, id: Digest, record: ImageRecord) -> Result<Arc<Image>> {
        // The caller's own lease goes with the caller.
        let lease = self.state().lease(record.layers.iter().map(|l| &l.diff_id).chain(&record.fixups));
        let add = |inner: Arc<Self>| async move {
            let _lease = lease;
            inner.add(id, record).await
        };
        self.complete("record an image", add).await
    }

    async fn add(&self, id: Digest, mut record: ImageRecord) -> Result<Arc<Image>> {
        let _catalog = self.catalog.lock().await;
        let (known, losers, layers) = {
            let state = self.state();
            let known = state.images.get(&id).map(|s| s.record.clone());
            let mut losers: Vec<(Digest, ImageRecord)> = Vec::new();
            for (other, stored) in state.images.iter().filter(|(other, _)| **other != id) {
                if stored.record.tags.is_disjoint(&record.tags) {
                    continue;
                }
                let mut stripped = stored.record.clone();
                stripped.tags.retain(|t| !record.tags.contains(t));
                losers.push((other.clone(), stripped));
            }
            let mut layers: Vec<(Digest, LayerRecord)> = Vec::new();
            for layer in &record.layers {
                let found = state.layers.get(&layer.diff_id).ok_or_else(|| Error::LayerLost {
                    layer: layer.diff_id.clone(),
                    detail: "it vanished while its image was recorded".to_owned(),
                })?;
                if !found.durable {
                    layers.push((layer.diff_id.clone(), found.record.clone()));
                }
            }
            (known, losers, layers)
        };
        match &known {
            Some(known) => {
                record.tags.extend(known.tags.iter().cloned());
                record.repo_digests.extend(known.repo_digests.iter().cloned());
                record.fixups.extend(known.fixups.iter().cloned());
                record.keeps_blobs |= known.keeps_blobs;
                record.manifest = record.manifest.or_else(|| known.manifest.clone());
                (record.pulled_at, record.pinned) = (known.pulled_at, known.pinned);
            }
            None => record.pulled_at = now(),
        }
        let mut batch = Batch::new();
        for (layer, value) in &layers {
            batch.put(layer.as_str(), value)?;
        }
        for (other, value) in &losers {
            batch.put(other.as_str(), value)?;
        }
        if known.as_ref() != Some(&record) {
            batch.put(id.as_str(), &record)?;
        }
        self.records.commit(batch).await?;
        for (layer, value) in layers {
            if let Some(found) = self.state().layers.get_mut(&layer)
                && found.record == value
            {
                found.durable = true;
            }
        }
        for (other, value) in losers {
            self.show(&other, value)?;
        }
        self.show(&id, record)
    }

    /// Lets callers see a record that was written.
    fn show(&self, id: &Digest, record: ImageRecord) -> Result<Arc<Image>> {
        let image = Arc::new(publish(id, &record, self.is_pinned(&record))?);
        let stored = Stored::new(record, image.clone());
        self.state().images.insert(id.clone(), stored);
        Ok(image)
    }

    pub(crate) async fn remove(self: &Arc<Self>, name: &str) -> Result<()> {
        let named = name.to_owned();
        self.complete("remove an image", |inner| async move { inner.forget(&named).await }).await
    }

    async fn forget(&self, name: &str) -> Result<()> {
        let _catalog = self.catalog.lock().await;
        let Some(Stored { mut record, image, .. }) = self.find(name)? else { return Ok(()) };
        let tag = Reference::parse(name).ok().filter(|r| r.digest().is_none()).map(|r| r.canonical());
        let by_tag = tag.is_some_and(|tag| record.tags.remove(&tag));
        let mut batch = Batch::new();
        if by_tag && !record.tags.is_empty() {
            batch.put(image.id.as_str(), &record)?;
            self.records.commit(batch).await?;
            self.show(&image.id, record)?;
        } else {
            batch.delete::<ImageRecord>(image.id.as_str());
            self.records.commit(batch).await?;
            self.state().images.remove(&image.id);
            self.collect.notify_one();
        }
        Ok(())
    }

    pub(crate) async fn set_pinned(self: &Arc<Self>, name: &str, pinned: bool) -> Result<()> {
        let named = name.to_owned();
        self.complete("pin an image", move |inner| async move { inner.pin(&named, pinned).await }).await
    }

    async fn pin(&self, name: &str, pinned: bool) -> Result<()> {
        let _catalog = self.catalog.lock().await;
        let found = self.find(name)?.ok_or_else(|| Error::ImageNotFound { name: name.to_owned() })?;
        let Stored { mut record, image, .. } = found;
        record.pinned = Some(pinned);
        let mut batch = Batch::new();
        batch.put(image.id.as_str(), &record)?;
        self.records.commit(batch).await?;
        self.show(&image.id, record).map(drop)
    }

    /// What the configuration's patterns say.
    pub(crate) fn is_pinned(&self, record: &ImageRecord) -> bool {
        let names: BTreeSet<&String> = record.tags.iter().chain(&record.repo_digests).collect();
        self.config.pinned.iter().any(|pattern| {
            let complete = Reference::parse(pattern).map(|r| r.canonical());
            names.iter().any(|name| matches(pattern, name) || complete.as_ref().is_ok_and(|c| c == *name))
        })
    }
}

/// A pattern in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_match_anything() {
        for (pattern, name, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("r.io/*", "r.io/x:1", true),
            ("r.io/*:1", "r.io/x:12", false),
            ("*pause*:3*", "r.io/pause:3.10", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
