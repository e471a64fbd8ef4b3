//! Images that a request wants mounted (KEP-4639).

use std::path::{Component, Path, PathBuf};

use cricket_cri_api::v1;

use crate::error::{Error, Result, shown};
use crate::input::MountedImage;
use crate::paths::check;

/// The images that the mounts of a request name, in its order.
///
/// # Errors
/// A mount that the definition of `Mount` calls one: a host path besides the image, a sub-path without an image or out
/// of it, another propagation than private; an image without a name.
pub fn mounted_images(config: &v1::ContainerConfig) -> Result<Vec<MountedImage>> {
    let all = config.mounts.iter().enumerate();
    all.filter_map(|(index, mount)| mounted_image(index, mount).transpose()).collect()
}

pub(crate) fn mounted_image(index: usize, mount: &v1::Mount) -> Result<Option<MountedImage>> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let Some(image) = &mount.image else {
        if !mount.image_sub_path.is_empty() {
            return Err(Error::invalid(field("image_sub_path"), "is given without an image"));
        }
        return Ok(None);
    };
    if !mount.host_path.is_empty() {
        return Err(Error::invalid(field("host_path"), "is given together with an image"));
    }
    if image.image.is_empty() {
        return Err(Error::invalid(field("image"), "has no name"));
    }
    if mount.propagation != v1::MountPropagation::PropagationPrivate as i32 {
        return Err(Error::invalid(field("propagation"), "of an image can only be private"));
    }
    if mount.recursive_read_only && !mount.readonly {
        return Err(Error::invalid(field("recursive_read_only"), "needs readonly"));
    }
    let sub_path = sub_path(&field("image_sub_path"), &mount.image_sub_path)?;
    Ok(Some(MountedImage { index, image: image.image.clone(), sub_path }))
}

fn sub_path(field: &str, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Ok(PathBuf::new());
    }
    check(field, path)?;
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            _ => return Err(Error::invalid(field, format!("{} is not a path inside the image", shown(path)))),
        }
    }
    Ok(clean)
}
