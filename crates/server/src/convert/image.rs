//! Images.

use cricket_cri_api::v1;
use cricket_image::Image;
use cricket_oci::ImageUser;

/// An image as the CRI lists it. Its `uid` or `username` is what the kubelet checks `runAsNonRoot` with.
pub(crate) fn item(image: &Image) -> v1::Image {
    let (uid, username) = match cricket_oci::uid_or_username(&image.config.user) {
        ImageUser::Uid(uid) => (Some(uid), String::new()),
        ImageUser::Name(name) => (None, name),
    };
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: uid.map(|value| v1::Int64Value { value }),
        username,
        spec: Some(v1::ImageSpec { image: String::new(), ..Default::default() }),
        pinned: image.pinned,
    }
}
