//! Containers' root filesystems: which layers they use, and their writable directories.
//!
//! `containers/<id>/rootfs.json` names the layers; it is not synced, a broken one after a crash is discarded with its
//! container, which did not survive either. A pair `<n>/{upper,work}` is mounted once: overlayfs' volatile mark (and
//! the `work` directory that it makes) tells a used one.

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_model::{ContainerId, Digest, IdMaps};
use cricket_process::fault::point;
use serde::{Deserialize, Serialize};

use super::chain::copy_attributes;
use super::dirs::{Dirs, Staged, delete_later, names};
use super::layers::Origin;
use super::overlay::{self, Overlay, Upper, Way};
use super::record::LayerRef;
use super::state::Lease;
use super::usage::Cached;
use super::{Inner, blocking, mapped, mounted};
use crate::image::chain_ids;
use crate::reference::Reference;
use crate::{Error, Image, Result};

/// What a container's root filesystem is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootfsRecord {
    pub(crate) image: Digest,
    /// Diff IDs, the lowest first.
    pub(crate) layers: Vec<Digest>,
    /// Chain IDs with corrections.
    pub(crate) chains: Vec<Digest>,
    /// Directories below the store's own, the topmost first.
    pub(crate) lowers: Vec<PathBuf>,
    /// The one that gives the root directory its metadata.
    pub(crate) root: Option<PathBuf>,
    /// How the image's IDs are the host's, where they are not the same.
    #[serde(default)]
    pub(crate) maps: Option<IdMaps>,
}

/// A container here.
#[derive(Debug, Clone)]
pub(crate) struct Rootfs {
    pub(crate) record: Arc<RootfsRecord>,
    /// The images that are mounted into it.
    pub(crate) images: Vec<Arc<RootfsRecord>>,
    pub(crate) usage: Cached,
}

impl Rootfs {
    pub(crate) fn new(record: RootfsRecord, images: Vec<RootfsRecord>) -> Self {
        Self { record: Arc::new(record), images: images.into_iter().map(Arc::new).collect(), usage: Cached::default() }
    }

    /// Everything that it is made of.
    pub(crate) fn records(&self) -> impl Iterator<Item = &RootfsRecord> {
        std::iter::once(&self.record).chain(&self.images).map(AsRef::as_ref)
    }
}

/// Reads all containers; a record that cannot be read is moved aside with its directories.
pub(crate) fn load(dirs: &Dirs) -> Result<HashMap<ContainerId, Rootfs>> {
    let mut found = HashMap::new();
    let base = dirs.base.join("containers");
    for name in names(&base)? {
        let dir = base.join(&name);
        let text = std::fs::read(dir.join("rootfs.json"));
        let record = text.ok().and_then(|text| serde_json::from_slice::<RootfsRecord>(&text).ok());
        match (name.parse::<ContainerId>(), record, mounted::load(&dir)) {
            (Ok(id), Some(record), Some(images)) => {
                found.insert(id, Rootfs::new(record, images));
            }
            _ => {
                tracing::warn!(path = %dir.display(), "a root filesystem without a readable record is discarded");
                dirs.discard(&dir)?;
            }
        }
    }
    Ok(found)
}

impl Inner {
    pub(crate) async fn create_rootfs(
        self: &Arc<Self>,
        container: &ContainerId,
        image: &Image,
        maps: Option<IdMaps>,
    ) -> Result<()> {
        let _lease = self.lease_image(image);
        if let Some(existing) = self.state().containers.get(container).map(|c| c.record.clone()) {
            if existing.image == image.id {
                return Ok(());
            }
            let what = format!("container {container}");
            return Err(Error::BadImage { what, detail: format!("it has a root filesystem of {}", existing.image) });
        }
        let record = RootfsRecord { maps, ..self.have(image).await? };
        let (dirs, id, plan) = (self.dirs.clone(), container.clone(), record.clone());
        blocking("make a root filesystem", move || make(&dirs, &id, &plan)).await?;
        self.state().containers.insert(container.clone(), Rootfs::new(record, Vec::new()));
        Ok(())
    }

    /// Keeps what an image is made of until it is dropped.
    pub(crate) fn lease_image(&self, image: &Image) -> Lease {
        let chain = chain_ids(&image.diff_ids);
        self.state().lease(image.diff_ids.iter().chain(&chain))
    }

    /// Sees to it that an image's layers are there, and says how they are stacked. The caller has leased them.
    pub(crate) async fn have(self: &Arc<Self>, image: &Image) -> Result<RootfsRecord> {
        let chain = chain_ids(&image.diff_ids);
        let missing: Vec<LayerRef> = image.layers.iter().filter(|l| !self.layer_usable(&l.diff_id)).cloned().collect();
        if !missing.is_empty() {
            let origin = self.origin_of(image, &missing).await?;
            for layer in &missing {
                tracing::warn!(layer = %layer.diff_id, image = %image.id, "a layer is gone and fetched again");
            }
            self.ensure_layers(&missing, &origin).await?;
            // Its record may be there from before, and would count for unwritten files after a power cut.
            self.sync_all().await?;
        }
        let stored = self.state().images.get(&image.id).map(|s| s.record.fixups.clone());
        let chains = match stored.filter(|f| f.iter().all(|c| self.dirs.chain(c).join("fs").is_dir())) {
            Some(fixups) => fixups,
            None => self.ensure_chain(&image.diff_ids).await?,
        };
        self.plan(image, &chain, chains.into_iter().collect())
    }

    fn layer_usable(&self, diff_id: &Digest) -> bool {
        self.state().layers.contains_key(diff_id) && self.layer_is_whole(diff_id)
    }

    /// Where an image's layers can be had again: kept blobs, or the registry of one of its names.
    pub(crate) async fn origin_of(&self, image: &Image, layers: &[LayerRef]) -> Result<Origin> {
        if layers.iter().all(|l| self.dirs.blob(&l.blob).is_file()) {
            let dirs = self.dirs.clone();
            return Ok(Origin::Files(Arc::new(move |layer| Some(dirs.blob(&layer.blob)))));
        }
        let name = image.repo_digests.first().or(image.tags.first());
        let Some(name) = name else {
            let layer = layers.first().map_or_else(|| image.id.clone(), |l| l.diff_id.clone());
            return Err(Error::LayerLost { layer, detail: format!("image {} has no name", image.id) });
        };
        Ok(Origin::Registry(self.registry.source(&Reference::parse(name)?, None).await?))
    }

    /// The stack, the topmost first: each layer's corrections right above it, nothing below an opaque root.
    fn plan(&self, image: &Image, chain: &[Digest], chains: Vec<Digest>) -> Result<RootfsRecord> {
        let (mut lowers, mut root) = (Vec::new(), None);
        let state = self.state();
        for (diff_id, chain_id) in image.diff_ids.iter().zip(chain).rev() {
            if chains.contains(chain_id) {
                lowers.push(Path::new("chains").join(chain_id.hex()).join("fs"));
            }
            let fs = Path::new("layers").join(diff_id.hex()).join("fs");
            let layer = state.layers.get(diff_id).ok_or_else(|| Error::LayerLost {
                layer: diff_id.clone(),
                detail: "it vanished while a container was made".to_owned(),
            })?;
            if root.is_none() && !layer.record.implied_root {
                root = Some(fs.clone());
            }
            lowers.push(fs);
            if layer.record.opaque_root {
                break;
            }
        }
        if lowers.is_empty() {
            lowers.push(PathBuf::from("empty"));
        }
        let layers = image.diff_ids.clone();
        Ok(RootfsRecord { image: image.id.clone(), layers, chains, lowers, root, maps: None })
    }

    pub(crate) async fn mount_rootfs(&self, container: &ContainerId, target: &Path, label: Option<&str>) -> Result<()> {
        let found = self.state().containers.get(container).map(|c| c.record.clone());
        let record = found.ok_or_else(|| Error::NoRootfs { container: container.clone() })?;
        let mapping = match record.maps {
            Some(maps) => Some((maps, self.mapping().await?)),
            None => None,
        };
        let (dirs, container, target) = (self.dirs.clone(), container.clone(), target.to_owned());
        let label = label.map(str::to_owned);
        let used = blocking("mount a root filesystem", move || {
            std::fs::create_dir_all(&target).map_err(|e| Error::io("make", &target, e))?;
            let (pair, used) = fresh_pair(&dirs, &container, &record)?;
            let lowers: Vec<PathBuf> = record.lowers.iter().map(|l| dirs.base.join(l)).collect();
            let (upper, work) = (pair.join("upper"), pair.join("work"));
            let overlay =
                Overlay { lowers: &lowers, upper: Some(Upper { upper: &upper, work: &work }), label: label.as_deref() };
            match mapping {
                Some((maps, layers)) => mapped::mount_at(&overlay, &target, maps, layers)?,
                None => overlay::mount_at(&overlay, &target, Way::Best)?,
            }
            used.iter().map(|path| dirs.discard(path)).collect::<Result<Vec<_>>>()
        })
        .await?;
        used.into_iter().flatten().for_each(delete_later);
        Ok(())
    }

    /// How root file systems with mapped IDs are mounted here.
    pub(crate) async fn mapping(&self) -> Result<mapped::Layers> {
        if let Some(layers) = self.mapping.get() {
            return Ok(*layers);
        }
        let dirs = self.dirs.clone();
        let found = blocking("try to map IDs", move || {
            let scratch = Staged::create(dirs.staging())?;
            mapped::probe(scratch.path(), &dirs.base.join("empty"))
        });
        let found = found.await?;
        Ok(*self.mapping.get_or_init(|| found))
    }

    pub(crate) async fn remove_rootfs(&self, container: &ContainerId, target: Option<&Path>) -> Result<()> {
        let (dirs, id, target) = (self.dirs.clone(), container.clone(), target.map(Path::to_owned));
        let trash = blocking("remove a root filesystem", move || {
            if let Some(target) = target {
                overlay::unmount_all(&target)?;
            }
            point("rootfs.unmounted");
            let trash = dirs.discard(&dirs.container(&id))?;
            point("rootfs.discarded");
            Ok(trash)
        })
        .await?;
        if self.state().containers.remove(container).is_some() {
            self.collect.notify_one();
        }
        if let Some(trash) = trash {
            delete_later(trash);
        }
        Ok(())
    }

    /// The directory whose pairs belong to a container.
    pub(crate) fn upper_of(&self, container: &ContainerId) -> PathBuf {
        self.dirs.container(container)
    }
}

/// The container's directory with its record, whole or not at all: made in staging, renamed.
fn make(dirs: &Dirs, container: &ContainerId, record: &RootfsRecord) -> Result<()> {
    let staged = Staged::create(dirs.staging())?;
    let path = staged.path().join("rootfs.json");
    let text = serde_json::to_vec(record).map_err(|e| Error::io("encode", &path, std::io::Error::other(e)))?;
    std::fs::write(&path, text).map_err(|e| Error::io("write", &path, e))?;
    make_pair(dirs, &staged.path().join("0"), record)?;
    let place = dirs.container(container);
    // Of a create that was interrupted between this rename and being known.
    if let Some(old) = dirs.discard(&place)? {
        delete_later(old);
    }
    point("rootfs.staged");
    staged.publish(&place)?;
    point("rootfs.placed");
    Ok(())
}

fn make_pair(dirs: &Dirs, pair: &Path, record: &RootfsRecord) -> Result<()> {
    let (upper, work) = (pair.join("upper"), pair.join("work"));
    for dir in [pair, &upper, &work] {
        std::fs::create_dir(dir).map_err(|e| Error::io("make", dir, e))?;
    }
    match &record.root {
        // The mount's root has the upper directory's metadata.
        Some(root) => copy_attributes(&dirs.base.join(root), &upper)?,
        None => std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(0o755))
            .map_err(|e| Error::io("change the mode of", &upper, e))?,
    }
    let Some(maps) = record.maps else { return Ok(()) };
    // Nothing maps this directory: its owner is the host's.
    let owner = std::fs::metadata(&upper).map_err(|e| Error::io("look up", &upper, e))?;
    let owner = maps.outside(owner.uid(), owner.gid()).or_else(|| maps.outside(0, 0));
    let (user, group) = owner.ok_or_else(|| Error::BadImage {
        what: pair.display().to_string(),
        detail: "the user namespace has no root".to_owned(),
    })?;
    std::os::unix::fs::chown(&upper, Some(user), Some(group)).map_err(|e| Error::io("change the owner of", &upper, e))
}

/// A pair that was never mounted, and those that were.
fn fresh_pair(dirs: &Dirs, container: &ContainerId, record: &RootfsRecord) -> Result<(PathBuf, Vec<PathBuf>)> {
    let base = dirs.container(container);
    let (mut used, mut highest) = (Vec::new(), 0u64);
    for name in names(&base)? {
        let Ok(number) = name.parse::<u64>() else { continue };
        highest = highest.max(number);
        let pair = base.join(name);
        if pair.join("work/work").symlink_metadata().is_err() && pair.join("work").is_dir() {
            return Ok((pair, used));
        }
        used.push(pair);
    }
    let pair = base.join((highest + 1).to_string());
    make_pair(dirs, &pair, record)?;
    Ok((pair, used))
}
