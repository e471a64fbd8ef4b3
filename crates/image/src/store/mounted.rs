//! Images that are mounted into containers, read-only.
//!
//! `containers/<id>/image-<n>.json` names the layers of each before it is mounted; they are the container's then, like
//! those of its root filesystem, and go with its directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_model::{ContainerId, IdMaps};
use cricket_process::fault::point;

use super::dirs::names;
use super::overlay::{self, Overlay, Way};
use super::rootfs::RootfsRecord;
use super::{Inner, blocking, mapped};
use crate::{Error, Image, Result};

/// The records in a container's directory; nothing when one of them cannot be read.
pub(crate) fn load(dir: &Path) -> Option<Vec<RootfsRecord>> {
    let ours = |name: &String| name.starts_with("image-") && name.ends_with(".json");
    let read = |name: String| serde_json::from_slice(&std::fs::read(dir.join(name)).ok()?).ok();
    names(dir).ok()?.into_iter().filter(ours).map(read).collect()
}

impl Inner {
    pub(crate) async fn mount_image(
        self: &Arc<Self>,
        container: &ContainerId,
        image: &Image,
        target: &Path,
        maps: Option<IdMaps>,
        label: Option<&str>,
    ) -> Result<()> {
        let _lease = self.lease_image(image);
        let record = Arc::new(RootfsRecord { maps, ..self.have(image).await? });
        let number = {
            let mut state = self.state();
            let known = state.containers.get_mut(container);
            let known = known.ok_or_else(|| Error::NoRootfs { container: container.clone() })?;
            known.images.push(record.clone());
            known.images.len()
        };
        let mapping = match record.maps {
            Some(maps) => Some((maps, self.mapping().await?)),
            None => None,
        };
        let (dirs, target, label) = (self.dirs.clone(), target.to_owned(), label.map(str::to_owned));
        let note = dirs.container(container).join(format!("image-{number}.json"));
        blocking("mount an image", move || {
            std::fs::create_dir_all(&target).map_err(|e| Error::io("make", &target, e))?;
            write(&note, &record)?;
            point("image.noted");
            let empty = dirs.base.join("empty");
            let mut lowers: Vec<PathBuf> = record.lowers.iter().map(|l| dirs.base.join(l)).collect();
            if lowers == [empty.clone()] {
                // An image without layers: overlayfs takes no directory twice.
                return cricket_process::mounts::tmpfs(&target, 1 << 12, 0o755)
                    .map_err(|e| Error::io("mount an empty image at", &target, mapped::said(&e)));
            }
            // Without an upper directory overlayfs wants two; the lowest one of them gives nothing.
            lowers.push(empty);
            let overlay = Overlay { lowers: &lowers, upper: None, label: label.as_deref() };
            match mapping {
                Some((maps, layers)) => mapped::mount_at(&overlay, &target, maps, layers),
                None => overlay::mount_at(&overlay, &target, Way::Best),
            }
        })
        .await
    }
}

/// Whole or not at all: a container with a note that cannot be read is discarded at the next start.
fn write(note: &Path, record: &RootfsRecord) -> Result<()> {
    let text = serde_json::to_vec(record).map_err(|e| Error::io("encode", note, std::io::Error::other(e)))?;
    let staged = note.with_extension("new");
    std::fs::write(&staged, text).map_err(|e| Error::io("write", &staged, e))?;
    std::fs::rename(&staged, note).map_err(|e| Error::io("rename", &staged, e))
}
