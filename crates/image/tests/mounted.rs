//! Images mounted into containers: read-only, and kept while the container is.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::path::PathBuf;

use cricket_model::{ContainerId, ErrorKind, Kinded};
use support::{Registry, eventually, image, layer, names};

/// A mount that goes when the test ends, however it ends.
struct Place(PathBuf);

impl Place {
    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_mounted_read_only_and_kept_while_its_container_is() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    registry.push("v1", &image("one", &[layer(&[("a", "a")])]));
    let store = registry.store(dir.path()).await;
    let base = store.pull("r.test/repo:v1", None).await.unwrap();
    let layers =
        [layer(&[("data/", "755"), ("data/low", "low")]), layer(&[("data/high", "high"), ("data/low", "new")])];
    registry.push("v2", &image("two", &layers));
    let two = store.pull("r.test/repo:v2", None).await.unwrap();
    registry.push("v3", &image("three", &layers[..1]));
    let one_layer = store.pull("r.test/repo:v3", None).await.unwrap();

    let id = ContainerId::generate();
    store.create_rootfs(&id, &base, None).await.unwrap();
    let place = |name: &str| Place(dir.path().join("state").join(name));
    let (volume, single) = (place("volume"), place("single"));
    store.mount_image(&id, &two, &volume.0, None, None).await.unwrap();
    store.mount_image(&id, &one_layer, &single.0, None, None).await.unwrap();
    assert_eq!(std::fs::read(volume.at("data/low")).unwrap(), b"new");
    assert_eq!(std::fs::read(volume.at("data/high")).unwrap(), b"high");
    assert_eq!(std::fs::read(single.at("data/low")).unwrap(), b"low");
    for written in [volume.at("data/low"), single.at("new")] {
        let error = std::fs::write(&written, "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{}", written.display());
    }

    // Neither the image's removal nor another start of the store takes the layers.
    store.remove("r.test/repo:v2").await.unwrap();
    store.remove("r.test/repo:v3").await.unwrap();
    drop(store);
    let again = registry.store(dir.path()).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(names(dir.path(), "layers").len(), 3);
    assert_eq!(std::fs::read(volume.at("data/high")).unwrap(), b"high");

    for target in [&volume.0, &single.0] {
        again.unmount_image(target).await.unwrap();
        again.unmount_image(target).await.unwrap();
    }
    assert!(!volume.at("data").exists());
    again.remove_rootfs(&id, None).await.unwrap();
    eventually("the layers to go", || names(dir.path(), "layers").len() == 1).await;
    let error = again.mount_image(&id, &base, &volume.0, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
