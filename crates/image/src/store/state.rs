//! What the store knows, in memory. The lock is held for lookups only, never across a system call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

use cricket_model::{ContainerId, Digest};
use sha2::{Digest as _, Sha256};

use super::record::{ImageRecord, LayerRecord};
use super::rootfs::Rootfs;
use crate::Image;

/// An image, as recorded and as callers see it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) record: ImageRecord,
    pub(crate) image: Arc<Image>,
    /// Digest of the record's manifest.
    pub(crate) manifest: Option<Digest>,
}

impl Stored {
    /// Hashes the manifest, and so is not to be called under the lock.
    pub(crate) fn new(record: ImageRecord, image: Arc<Image>) -> Self {
        let manifest = record.manifest.as_ref().map(|m| Digest::from_sha256(Sha256::digest(m.as_bytes()).into()));
        Self { record, image, manifest }
    }
}

/// A layer whose directory is in place.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) record: LayerRecord,
    /// Whether `record` is in the file, and with it that its files survived to the disk.
    pub(crate) durable: bool,
    /// When it was unpacked, if this process did it.
    pub(crate) finished: Option<Instant>,
}

/// Keeps layers and chains from being collected while someone is about to name them.
#[derive(Debug)]
pub(crate) struct Lease(#[allow(dead_code, reason = "its life is what counts")] Vec<Arc<()>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) images: BTreeMap<Digest, Stored>,
    pub(crate) layers: HashMap<Digest, Layer>,
    pub(crate) containers: HashMap<ContainerId, Rootfs>,
    /// Directories in the trash that containers may still read, each with the layer or chain that it was.
    pub(crate) replaced: Vec<(Digest, PathBuf)>,
    leases: HashMap<Digest, Weak<()>>,
}

impl State {
    pub(crate) fn new(containers: HashMap<ContainerId, Rootfs>) -> Self {
        Self { containers, ..Self::default() }
    }

    /// Whether a container's root filesystem, or an image mounted into it, has this layer or chain in it.
    pub(crate) fn in_use(&self, name: &Digest) -> bool {
        self.containers.values().flat_map(Rootfs::records).any(|r| r.layers.contains(name) || r.chains.contains(name))
    }

    /// Whether somebody is about to use it.
    pub(crate) fn leased(&self, name: &Digest) -> bool {
        self.leases.get(name).is_some_and(|lease| lease.strong_count() > 0)
    }

    /// What was replaced and no container reads any more.
    pub(crate) fn take_unread(&mut self) -> Vec<PathBuf> {
        let all = std::mem::take(&mut self.replaced);
        let (read, unread) = all.into_iter().partition(|(name, _)| self.in_use(name));
        self.replaced = read;
        unread.into_iter().map(|(_, path)| path).collect()
    }

    /// Keeps what these digests name until the lease is dropped.
    pub(crate) fn lease<'a>(&mut self, names: impl Iterator<Item = &'a Digest>) -> Lease {
        self.leases.retain(|_, weak| weak.strong_count() > 0);
        let mut take = |name: &Digest| {
            let held = self.leases.get(name).and_then(Weak::upgrade);
            held.unwrap_or_else(|| {
                let fresh = Arc::new(());
                self.leases.insert(name.clone(), Arc::downgrade(&fresh));
                fresh
            })
        };
        Lease(names.map(&mut take).collect())
    }

    /// Every layer and chain that an image, a container or a lease names.
    pub(crate) fn referenced(&self) -> HashSet<Digest> {
        let mut names = HashSet::new();
        for stored in self.images.values() {
            names.extend(stored.record.layers.iter().map(|l| l.diff_id.clone()));
            names.extend(stored.record.fixups.iter().cloned());
        }
        for record in self.containers.values().flat_map(Rootfs::records) {
            names.extend(record.layers.iter().cloned());
            names.extend(record.chains.iter().cloned());
        }
        names.extend(self.leases.iter().filter(|(_, w)| w.strong_count() > 0).map(|(d, _)| d.clone()));
        names
    }
}
