//! Images that are mounted into containers: below the bundle, read-only, from the create to the removal.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_image::{Image, ImageStore};
use cricket_model::{ContainerId, ErrorKind, IdMaps};
use cricket_oci::{ImageDefaults, MountedImage};
use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::record::MountedRef;
use crate::shared::{Shared, blocking};

/// An image and where it is wanted.
pub(super) type Wanted = Vec<(MountedImage, Arc<Image>)>;

/// What an image says of its containers.
pub(super) fn defaults(image: &Image) -> ImageDefaults {
    let c = &image.config;
    ImageDefaults {
        entrypoint: c.entrypoint.clone(),
        cmd: c.cmd.clone(),
        env: c.env.clone(),
        user: c.user.clone(),
        working_dir: c.working_dir.clone(),
        stop_signal: c.stop_signal.clone(),
        volumes: c.volumes.clone(),
        labels: c.labels.clone(),
    }
}

/// Looks up the images that the mounts of a request name; the kubelet has pulled them.
pub(super) fn wanted(images: &ImageStore, config: &cricket_cri_api::v1::ContainerConfig) -> Result<Wanted> {
    let asked = cricket_oci::mounted_images(config).map_err(|e| Error::from_kinded("container", &e))?;
    let find = |mount: MountedImage| {
        let what = format!("image of mounts[{}]", mount.index);
        let found = images.find(&mount.image).map_err(|e| Error::from_kinded(format_args!("find {what}"), &e))?;
        let image = found.ok_or_else(|| Error::not_found(&what, &mount.image))?;
        Ok((mount, image))
    };
    asked.into_iter().map(find).collect()
}

/// What of them the container's record says.
pub(super) fn facts(wanted: &Wanted) -> Vec<MountedRef> {
    let one = |(mount, image): &(MountedImage, Arc<Image>)| MountedRef {
        index: mount.index,
        reference: image.reference_for(&mount.image),
    };
    wanted.iter().map(one).collect()
}

/// Mounts them with an SELinux label, and says where what is asked of each is, by the index of its mount.
pub(super) async fn mount(
    images: &ImageStore,
    id: &ContainerId,
    bundle: &Path,
    wanted: &Wanted,
    maps: Option<IdMaps>,
    label: Option<&str>,
) -> Result<BTreeMap<usize, PathBuf>> {
    let mut places = BTreeMap::new();
    for (mount, image) in wanted {
        let target = folder(bundle).join(mount.index.to_string());
        let made = target.clone();
        let make = move || crate::bundle::folder(&made);
        blocking("make a mount point", move || {
            make().map_err(|e| Error::internal("make the mount point of an image", &e))
        })
        .await?;
        let what = || format!("mount the image of mounts[{}]", mount.index);
        images.mount_image(id, image, &target, maps, label).await.map_err(|e| Error::from_kinded(what(), &e))?;
        let mount = mount.clone();
        places.insert(mount.index, blocking("find a sub-path", move || inside(&target, &mount)).await?);
    }
    Ok(places)
}

/// Where the sub-path is. The image cannot change and what was resolved has no links: it means the same to whoever
/// mounts it.
fn inside(target: &Path, mount: &MountedImage) -> Result<PathBuf> {
    if mount.sub_path.as_os_str().is_empty() {
        return Ok(target.to_owned());
    }
    let failed = |e: std::io::Error| {
        let field = format!("mounts[{}].image_sub_path: {}", mount.index, mount.sub_path.display());
        Error::caused(ErrorKind::InvalidArgument, field, &e)
    };
    let root = cricket_process::rooted::open_root(target).map_err(failed)?;
    let found = cricket_process::rooted::open_in_root(&root, &mount.sub_path, OFlags::PATH).map_err(failed)?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(failed)?;
    let whole = target.canonicalize().map_err(failed)?;
    match path.starts_with(&whole) {
        true => Ok(path),
        false => Err(failed(std::io::Error::other(format!("it leads to {}", path.display())))),
    }
}

/// Unmounts what [`mount`] has mounted, by what is there: a create that was cut off may have mounted any of them.
pub(super) async fn unmount(shared: &Shared, bundle: &Path) -> Result<()> {
    let folder = folder(bundle);
    let found = blocking("list mounted images", move || match std::fs::read_dir(&folder) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::internal(format_args!("list {}", folder.display()), &e)),
    })
    .await?;
    for target in found {
        shared.images.unmount_image(&target).await.map_err(|e| Error::from_kinded("unmount an image", &e))?;
    }
    Ok(())
}

fn folder(bundle: &Path) -> PathBuf {
    bundle.join("images")
}
