//! Root file systems of containers with a user namespace: overlayfs itself cannot be mapped, so each of its layers is
//! (mount_setattr(2), `MOUNT_ATTR_IDMAP`), and the overlay is mounted of these.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cricket_model::IdMaps;
use cricket_process::detached::{self, Change, Flags};
use cricket_process::{mounts, namespaces, userns};

use super::overlay::{self, Overlay, Upper, Way, unmount_all};
use crate::{Error, Result};

/// Of what the overlay is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layers {
    /// Of mounts that are nowhere (Linux 6.15).
    Detached,
    /// Of mounts in a mount namespace that ends right after: overlayfs keeps copies of its own.
    Private,
}

/// Mounts it at `target` with the layers' IDs mapped. The upper directory has the host's IDs.
pub(crate) fn mount_at(overlay: &Overlay<'_>, target: &Path, maps: IdMaps, layers: Layers) -> Result<()> {
    let trees = map(overlay.lowers, maps)?;
    match layers {
        Layers::Detached => {
            let lowers: Vec<_> = trees.iter().map(name).collect();
            overlay::mount_at(&Overlay { lowers: &lowers, ..*overlay }, target, Way::Best)
        }
        Layers::Private => {
            let mount = in_private(overlay, &trees, target).map_err(|e| failed(target, &e))?;
            mounts::attach(&mount?, target).map_err(|e| failed(target, &e))
        }
    }
}

/// A read-only copy of each layer's mount.
fn map(lowers: &[PathBuf], maps: IdMaps) -> Result<Vec<OwnedFd>> {
    let user = userns::make(&[maps.users], &[maps.groups]).map_err(|e| Error::io("map the IDs of", "/", said(&e)))?;
    let one = |lower: &PathBuf| -> cricket_process::Result<OwnedFd> {
        let tree = detached::clone_at(detached::open_place(lower)?, false)?;
        let change = Change { set: Flags::READ_ONLY, id_map: Some(user.as_fd()), ..Default::default() };
        change.apply(&tree, false)?;
        Ok(tree)
    };
    lowers.iter().map(|lower| one(lower).map_err(|e| Error::io("map the IDs of", lower, said(&e)))).collect()
}

/// The overlay's mount, detached. What else is mounted on the way only its thread sees.
fn in_private(
    overlay: &Overlay<'_>,
    trees: &[OwnedFd],
    target: &Path,
) -> std::result::Result<Result<OwnedFd>, cricket_process::Error> {
    namespaces::with_private_mounts(|| {
        mounts::tmpfs(target, 1 << 20, 0o700)?;
        let mut lowers = Vec::with_capacity(trees.len());
        for (number, tree) in trees.iter().enumerate() {
            let place = target.join(number.to_string());
            make_dir(&place)?;
            mounts::attach(tree, &place)?;
            lowers.push(place);
        }
        let whole = target.join("whole");
        make_dir(&whole)?;
        let made = overlay::mount_at(&Overlay { lowers: &lowers, ..*overlay }, &whole, Way::Best);
        Ok(match made {
            Ok(()) => Ok(mounts::clone_tree(&whole, false)?),
            Err(e) => Err(e),
        })
    })
}

fn make_dir(path: &Path) -> cricket_process::Result<()> {
    std::fs::create_dir(path).map_err(|e| cricket_process::Error::new(format!("make {}", path.display()), e))
}

/// Which way works for layers below `base`, tried in the directory `scratch`.
///
/// # Errors
/// Neither: why not.
pub(crate) fn probe(scratch: &Path, lower: &Path) -> Result<Layers> {
    let [upper, work, target] = ["upper", "work", "target"].map(|name| scratch.join(name));
    for dir in [&upper, &work, &target] {
        std::fs::create_dir(dir).map_err(|e| Error::io("make", dir, e))?;
    }
    let range = cricket_model::IdRange { inside: 0, outside: 1 << 16, length: 1 << 16 };
    let maps = IdMaps { users: range, groups: range };
    let lowers = [lower.to_owned()];
    let overlay = Overlay { lowers: &lowers, upper: Some(Upper { upper: &upper, work: &work }), label: None };
    let tried = |layers| {
        mount_at(&overlay, &target, maps, layers)?;
        unmount_all(&target)?;
        Ok(layers)
    };
    // A used pair of directories may not be mounted volatile again.
    tried(Layers::Detached).or_else(|_: Error| {
        let _ = std::fs::remove_dir_all(work.join("work"));
        tried(Layers::Private)
    })
}

fn name(tree: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()))
}

fn failed(target: &Path, error: &cricket_process::Error) -> Error {
    Error::io("mount the overlay at", target, said(error))
}

/// With what was attempted, besides what the kernel said.
pub(crate) fn said(error: &cricket_process::Error) -> std::io::Error {
    std::io::Error::new(error.io().kind(), error.to_line())
}
