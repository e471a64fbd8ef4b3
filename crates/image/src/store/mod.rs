//! The image store: what other crates call.

mod archive;
mod catalog;
mod chain;
mod complete;
mod dirs;
mod flight;
mod gc;
mod import;
mod layers;
mod mapped;
mod mounted;
mod overlay;
mod parked;
mod prune;
mod pull;
mod record;
mod rootfs;
mod state;
#[cfg(test)]
mod tests;
mod usage;
mod verify;
mod volume;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use cricket_model::{ContainerId, Digest, IdMaps};
use tokio::sync::{Notify, Semaphore};

use crate::registry::Registry;
use crate::{AuthConfig, Error, Image, ImageStoreConfig, Result};

pub(crate) use import::read_archive;
pub use prune::Pruned;
pub(crate) use record::LayerRef;

/// Which part of the store a [`FsUsage`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsKind {
    /// The unpacked layers of all images.
    Images,
    /// The containers' writable layers.
    Containers,
}

/// What a part of the store takes on its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsUsage {
    /// Which part.
    pub kind: FsKind,
    /// A directory on that file system which exists; the kubelet asks for its free space.
    pub mountpoint: PathBuf,
    /// Bytes used.
    pub used_bytes: u64,
    /// Inodes used.
    pub inodes_used: u64,
    /// When it was measured.
    pub measured_at: SystemTime,
}

/// Damage that [`ImageStore::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The layer.
    pub diff_id: Digest,
    /// What is wrong, one line for each path (at most 100).
    pub details: Vec<String>,
}

/// The images, layers and container root filesystems of this node. Clones share it.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

pub(crate) struct Inner {
    config: ImageStoreConfig,
    records: cricket_store::Store,
    registry: Registry,
    dirs: Arc<dirs::Dirs>,
    state: Mutex<state::State>,
    /// Held while records and the directories they name change together.
    catalog: tokio::sync::Mutex<()>,
    /// Layers being fetched and unpacked.
    slots: Arc<Semaphore>,
    pulls: flight::Flights<pull::Key, Arc<Image>>,
    fetches: flight::Flights<layers::Pair, ()>,
    /// Layers that were cancelled half-way.
    parked: Arc<parked::Parked>,
    /// Something may have become unreferenced.
    collect: Arc<Notify>,
    /// How root file systems with mapped IDs are mounted here, once that was tried.
    mapping: OnceLock<mapped::Layers>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, state::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs file system work on a thread of its own.
async fn blocking<T: Send + 'static>(what: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::Ended { what: format!("{what}: {e}") }),
    }
}

impl ImageStore {
    /// Opens the store below `config.root` and collects leftovers in the background.
    ///
    /// # Errors
    /// When directories cannot be made or the records cannot be read.
    pub async fn open(config: ImageStoreConfig, records: cricket_store::Store) -> Result<Self> {
        gc::open(config, records).await.map(Self)
    }

    /// Pulls an image. Concurrent pulls of one image or layer share one download; when the last
    /// who waits drops the future, the transfer ends; finished layers are kept for a while, and those under way for a
    /// minute, to be gone on with.
    ///
    /// # Errors
    /// Of the registry, the archive or the disk; its kind says which.
    pub async fn pull(&self, reference: &str, auth: Option<AuthConfig>) -> Result<Arc<Image>> {
        self.0.pull(reference, auth).await
    }

    /// Every image, untagged ones included, the oldest first.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.0.list()
    }

    /// Looks an image up by reference, repo digest, ID with or without `sha256:`, or any
    /// unambiguous prefix of the ID.
    ///
    /// # Errors
    /// An ambiguous prefix, or a name that is neither a reference nor an ID.
    pub fn find(&self, name: &str) -> Result<Option<Arc<Image>>> {
        Ok(self.0.find(name)?.map(|stored| stored.image))
    }

    /// Removes an image: a tag only if it has others, else all of it. An unknown image is no
    /// error. Layers in use live until the last container and pull that names them are gone.
    ///
    /// # Errors
    /// As [`ImageStore::find`], and when the records cannot be written.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.0.remove(name).await
    }

    /// Removes the images without a pin that no container uses and that have no tag; with `tagged` also those that have
    /// one. Their layers are deleted when this returns.
    ///
    /// # Errors
    /// When the records cannot be written or layers cannot be deleted; a later collection deletes those.
    pub async fn prune(&self, tagged: bool) -> Result<Pruned> {
        self.0.prune(tagged).await
    }

    /// What [`ImageStore::prune`] would remove now.
    pub fn prunable(&self, tagged: bool) -> Pruned {
        self.0.prunable(tagged)
    }

    /// Loads the images of an OCI layout (directory, tar, tar.gz) or a docker archive.
    ///
    /// # Errors
    /// When it is neither, or its content does not match its digests.
    pub async fn import(&self, path: &Path) -> Result<Vec<Arc<Image>>> {
        self.0.import(path).await
    }

    /// Marks an image so that the kubelet does not collect it.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], and as [`ImageStore::find`].
    pub async fn pin(&self, name: &str) -> Result<()> {
        self.0.set_pinned(name, true).await
    }

    /// Takes the mark away, also one that the configuration's patterns give.
    ///
    /// # Errors
    /// As [`ImageStore::pin`].
    pub async fn unpin(&self, name: &str) -> Result<()> {
        self.0.set_pinned(name, false).await
    }

    /// What layers and containers take; answered from memory.
    pub fn fs_info(&self) -> Vec<FsUsage> {
        self.0.fs_info()
    }

    /// Records which layers the container uses and makes its writable directories. A layer that is
    /// gone is fetched again. Repeating it with the same image is no error. `maps`: the image's IDs
    /// are those of a user namespace, and are so mapped when it is mounted.
    ///
    /// # Errors
    /// When a layer cannot be had or the disk is full.
    pub async fn create_rootfs(&self, container: &ContainerId, image: &Image, maps: Option<IdMaps>) -> Result<()> {
        self.0.create_rootfs(container, image, maps).await
    }

    /// Tries whether root file systems can have mapped IDs here: the kernel, and the file system that the layers are
    /// on, have to be able to.
    ///
    /// # Errors
    /// Why not.
    pub async fn try_mapping(&self) -> Result<()> {
        self.0.mapping().await.map(drop)
    }

    /// Mounts the container's root filesystem at `target`, which is made if it is missing.
    /// Mounting again uses fresh writable directories: what an earlier mount wrote is gone. `label`: the SELinux label
    /// of every file in it.
    ///
    /// # Errors
    /// [`Error::NoRootfs`] before `create_rootfs`; what the kernel says.
    pub async fn mount_rootfs(&self, container: &ContainerId, target: &Path, label: Option<&str>) -> Result<()> {
        self.0.mount_rootfs(container, target, label).await
    }

    /// Unmounts (detached when busy), forgets and deletes the container's root filesystem.
    /// Idempotent.
    ///
    /// # Errors
    /// When unmounting or moving it aside fails.
    pub async fn remove_rootfs(&self, container: &ContainerId, target: Option<&Path>) -> Result<()> {
        self.0.remove_rootfs(container, target).await
    }

    /// The containers that have a root filesystem here.
    pub fn rootfs_owners(&self) -> Vec<ContainerId> {
        self.0.state().containers.keys().cloned().collect()
    }

    /// Mounts `image` read-only at `target`, which is made if it is missing, for a container that has a root filesystem
    /// here: its layers stay while the container does. `maps`, `label`: as [`ImageStore::create_rootfs`] and
    /// [`ImageStore::mount_rootfs`]. The caller unmounts
    /// it ([`ImageStore::unmount_image`]) before [`ImageStore::remove_rootfs`].
    ///
    /// # Errors
    /// [`Error::NoRootfs`]; when a layer cannot be had; what the kernel says.
    pub async fn mount_image(
        &self,
        container: &ContainerId,
        image: &Image,
        target: &Path,
        maps: Option<IdMaps>,
        label: Option<&str>,
    ) -> Result<()> {
        self.0.mount_image(container, image, target, maps, label).await
    }

    /// Unmounts what [`ImageStore::mount_image`] mounted (detached when busy). Idempotent.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn unmount_image(&self, target: &Path) -> Result<()> {
        let target = target.to_owned();
        blocking("unmount an image", move || overlay::unmount_all(&target)).await
    }

    /// What the container's writable layer takes. Measured at most every ten seconds; large ones
    /// in the background.
    ///
    /// # Errors
    /// [`Error::NoRootfs`].
    pub fn rootfs_usage(&self, container: &ContainerId) -> Result<FsUsage> {
        self.0.rootfs_usage(container)
    }

    /// Copies what the root filesystem mounted at `rootfs` has at the image VOLUME `path` into
    /// the directory `volume`: content, ownership, modes, extended attributes. Links in `path`
    /// are followed inside the root filesystem only. Nothing there, or no directory: an empty
    /// volume.
    ///
    /// # Errors
    /// When the copy fails.
    pub async fn copy_up_volume(&self, rootfs: &Path, path: &str, volume: &Path) -> Result<()> {
        let (rootfs, path, volume) = (rootfs.to_owned(), path.to_owned(), volume.to_owned());
        blocking("copy a volume", move || volume::copy_up(&rootfs, &path, &volume)).await
    }

    /// Compares every layer with its manifest, content included.
    ///
    /// # Errors
    /// When the store itself cannot be read.
    pub async fn verify(&self) -> Result<Vec<Damage>> {
        self.0.verify().await
    }

    /// Fetches damaged layers again. Containers that run keep the old files; new ones get the
    /// fresh layer.
    ///
    /// # Errors
    /// The first that could not be fetched; the others are done.
    pub async fn heal(&self, damage: &[Damage]) -> Result<()> {
        self.0.heal(damage).await
    }
}
