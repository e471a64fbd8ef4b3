//! Pulling from a registry on loopback: what is fetched, shared, kept, moved and collected.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::time::Duration;

use cricket_image::{Error, FsKind};
use cricket_model::{ErrorKind, Kinded};
use support::{Registry, eventually, image, layer, names, sha};

fn layers() -> Vec<Vec<u8>> {
    vec![layer(&[("etc/", "755"), ("etc/base", "base")]), layer(&[("top", "top")])]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_kept_over_a_restart() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &layers());
    registry.push("v1", &made);
    let store = registry.store(dir.path()).await;
    let pulled = store.pull("r.test/repo:v1", None).await.unwrap();
    assert_eq!(pulled.id, made.id);
    assert_eq!(pulled.tags, ["r.test/repo:v1"]);
    assert_eq!(pulled.repo_digests, [format!("r.test/repo@{}", sha(&made.manifest))]);
    assert_eq!(pulled.config.env, ["A=b"]);
    assert_eq!(pulled.config.volumes, ["/data"]);
    assert!(pulled.size > 7);
    let fs = dir.path().join("root/images/layers").join(made.diff_ids[0].hex()).join("fs");
    assert_eq!(std::fs::read(fs.join("etc/base")).unwrap(), b"base");
    let info = store.fs_info();
    let images = info.iter().find(|u| u.kind == FsKind::Images).unwrap();
    assert!(images.mountpoint.is_dir() && images.used_bytes == 7 && images.inodes_used == 5, "{images:?}");

    // Again, unchanged: nothing is fetched.
    store.pull("r.test/repo:v1", None).await.unwrap();
    drop(store);
    let store = registry.store(dir.path()).await;
    let found = store.pull("r.test/repo:v1", None).await.unwrap();
    assert_eq!(*found, *pulled);
    assert_eq!(made.layers.iter().map(|l| registry.fetched(l)).collect::<Vec<_>>(), [1, 1]);
    assert!(store.verify().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let (one, two) = (image("one", &layers()), image("two", &layers()));
    registry.push("v1", &one);
    registry.push("v2", &two);
    let store = registry.store(dir.path()).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    store.pull(&format!("r.test/repo@{}", sha(&two.manifest)), None).await.unwrap();
    let id = |name: &str| store.find(name).unwrap().map(|i| i.id.clone());
    assert_eq!(id("r.test/repo:v1"), Some(one.id.clone()));
    assert_eq!(id(&format!("r.test/repo@{}", sha(&one.manifest))), Some(one.id.clone()));
    assert_eq!(id(&format!("r.test/repo:ignored@{}", sha(&two.manifest))), Some(two.id.clone()));
    assert_eq!(id(one.id.as_str()), Some(one.id.clone()));
    assert_eq!(id(one.id.hex()), Some(one.id.clone()));
    assert_eq!(id(&two.id.hex()[..20]), Some(two.id.clone()));
    assert_eq!(id(&format!("sha256:{}", &two.id.hex()[..20])), Some(two.id.clone()));
    assert_eq!(id("r.test/repo:v2"), None);
    assert_eq!(id(&"0".repeat(64)), None);
    assert_eq!(store.find("sha256:").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(store.find("").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let common: usize = one.id.hex().bytes().zip(two.id.hex().bytes()).take_while(|(a, b)| a == b).count();
    if common > 0 {
        assert!(matches!(store.find(&one.id.hex()[..common]), Err(Error::Ambiguous { count: 2, .. })));
    }
    assert!(store.find(&two.id.hex()[..=common]).unwrap().is_some());
    // Untagged images are listed, and layers are shared.
    assert_eq!(store.list().len(), 2);
    assert!(store.list().iter().any(|i| i.tags.is_empty() && i.id == two.id));
    assert_eq!(one.layers.iter().map(|l| registry.fetched(l)).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_share_a_download() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let mut tars = layers();
    let one = image("one", &tars);
    tars.push(layer(&[("third", "3")]));
    let two = image("two", &tars);
    registry.push("v1", &one);
    registry.push("v2", &two);
    let store = registry.store(dir.path()).await;
    registry.hold(&sha(&one.layers[0]));
    let mut pulls = tokio::task::JoinSet::new();
    for i in 0..50 {
        let (store, tag) = (store.clone(), if i % 2 == 0 { "v1" } else { "v2" });
        pulls.spawn(async move { store.pull(&format!("r.test/repo:{tag}"), None).await.map(drop) });
    }
    registry.asked_for(&one.layers[0]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    registry.release();
    while let Some(done) = pulls.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(two.layers.iter().map(|l| registry.fetched(l)).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(store.list().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_waiter_cancels_and_finished_layers_are_kept() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &layers());
    registry.push("v1", &made);
    let store = registry.store(dir.path()).await;
    registry.hold(&sha(&made.layers[1]));
    let pull = |store: cricket_image::ImageStore| tokio::spawn(async move { store.pull("r.test/repo:v1", None).await });
    let (first, second) = (pull(store.clone()), pull(store.clone()));
    registry.asked_for(&made.layers[1]).await;
    eventually("the first layer", || names(dir.path(), "layers") == [made.diff_ids[0].hex()]).await;
    first.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished());
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    registry.release();
    eventually("the staging to be empty", || names(dir.path(), "staging").is_empty()).await;
    assert!(store.list().is_empty());
    store.pull("r.test/repo:v1", None).await.unwrap();
    assert_eq!(registry.fetched(&made.layers[0]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_move_and_layers_go_with_their_last_image() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let shared = layer(&[("shared", "s")]);
    let one = image("one", &[shared.clone(), layer(&[("one", "1")])]);
    let two = image("two", &[shared, layer(&[("two", "2")])]);
    registry.push("v1", &one);
    let store = registry.store(dir.path()).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    registry.push("v1", &two);
    registry.push("also", &two);
    store.pull("r.test/repo:v1", None).await.unwrap();
    store.pull("r.test/repo:also", None).await.unwrap();
    assert_eq!(store.find("r.test/repo:v1").unwrap().unwrap().id, two.id);
    let old = store.find(one.id.as_str()).unwrap().unwrap();
    assert_eq!((old.tags.len(), old.repo_digests.len()), (0, 1));

    store.remove(one.id.as_str()).await.unwrap();
    eventually("the old layer to go", || names(dir.path(), "layers").len() == 2).await;
    store.remove("r.test/repo:v1").await.unwrap();
    assert_eq!(store.find(two.id.as_str()).unwrap().unwrap().tags, ["r.test/repo:also"]);
    store.remove("r.test/repo:v1").await.unwrap();
    store.remove("r.test/repo:also").await.unwrap();
    eventually("all layers to go", || names(dir.path(), "layers").is_empty()).await;
    assert!(store.list().is_empty());
    assert_eq!(store.fs_info()[0].used_bytes, 0);
    store.remove("r.test/repo:also").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_diff_id_gives_nothing() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let secret = image("secret", &[layer(&[("secret", "s")])]);
    registry.push("secret", &secret);
    let store = registry.store(dir.path()).await;
    store.pull("r.test/repo:secret", None).await.unwrap();
    // The config names the diff ID that is here, the manifest a blob of the attacker's.
    let mut thief = image("thief", &[layer(&[("secret", "s")])]);
    let other = support::gzip(&layer(&[("nothing", "")]));
    let manifest = String::from_utf8(thief.manifest).unwrap();
    let manifest = manifest.replace(sha(&thief.layers[0]).as_str(), sha(&other).as_str());
    let size = format!("\"size\":{}", thief.layers[0].len());
    thief.manifest = manifest.replace(&size, &format!("\"size\":{}", other.len())).into_bytes();
    thief.layers = vec![other];
    registry.push("thief", &thief);
    let error = store.pull("r.test/repo:thief", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
    assert_eq!(store.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_refused_and_leave_nothing() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &layers());
    registry.push("v1", &made);
    let mut bytes = made.layers[1].clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    registry.corrupt(&sha(&made.layers[1]), bytes);
    let store = registry.store(dir.path()).await;
    let error = store.pull("r.test/repo:v1", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
    eventually("the staging to be empty", || names(dir.path(), "staging").is_empty()).await;
    assert!(!names(dir.path(), "layers").contains(&made.diff_ids[1].hex().to_owned()));
    registry.corrupt(&sha(&made.layers[1]), made.layers[1].clone());
    store.pull("r.test/repo:v1", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_healed() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &layers());
    registry.push("v1", &made);
    let store = registry.store(dir.path()).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    let fs = dir.path().join("root/images/layers").join(made.diff_ids[0].hex()).join("fs");
    std::fs::write(fs.join("etc/base"), "BASE").unwrap();
    std::fs::write(fs.join("etc/extra"), "").unwrap();
    let damage = store.verify().await.unwrap();
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].details, ["etc/base: has other content", "etc/extra: does not belong to the layer"]);
    store.heal(&damage).await.unwrap();
    assert!(store.verify().await.unwrap().is_empty());
    assert_eq!(std::fs::read(fs.join("etc/base")).unwrap(), b"base");
    assert!(!fs.join("etc/extra").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_takes_what_nobody_uses() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let (old, new) =
        (image("old", &[layer(&[("base", "b")]), layer(&[("old", "o")])]), image("new", &[layer(&[("base", "b")])]));
    let store = registry.store(dir.path()).await;
    registry.push("v1", &old);
    let was = store.pull("r.test/repo:v1", None).await.unwrap();
    registry.push("v1", &new);
    store.pull("r.test/repo:v1", None).await.unwrap();
    // In use, it stays.
    let container = cricket_model::ContainerId::generate();
    store.create_rootfs(&container, &was, None).await.unwrap();
    assert_eq!(store.prune(false).await.unwrap(), cricket_image::Pruned::default());
    store.remove_rootfs(&container, None).await.unwrap();
    // It is only said what would go: the layer that the other image has stays.
    let would = store.prunable(false);
    assert_eq!((would.images.len(), &would.images[0].id, would.layers), (1, &old.id, 1));
    assert!(would.bytes > 0);
    assert_eq!((store.list().len(), names(dir.path(), "layers").len()), (2, 2));
    assert_eq!(store.prune(false).await.unwrap().bytes, would.bytes);
    assert_eq!((store.list().len(), names(dir.path(), "layers")), (1, vec![new.diff_ids[0].hex().to_owned()]));
    // A tag protects unless all are meant, a pin does in any case.
    assert!(store.prune(false).await.unwrap().images.is_empty());
    store.pin("r.test/repo:v1").await.unwrap();
    assert!(store.prune(true).await.unwrap().images.is_empty());
    store.unpin("r.test/repo:v1").await.unwrap();
    assert_eq!(store.prune(true).await.unwrap().layers, 1);
    assert!(names(dir.path(), "layers").is_empty());
    // After a restart as well.
    drop(store);
    assert!(registry.store(dir.path()).await.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_and_leftovers() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let made = image("one", &layers());
    registry.push("v1", &made);
    let store = registry.store(dir.path()).await;
    assert!(!store.pull("r.test/repo:v1", None).await.unwrap().pinned);
    store.pin("r.test/repo:v1").await.unwrap();
    drop(store);
    for leftover in ["staging/x/fs", "trash/y/z", "layers/0000/fs"] {
        std::fs::create_dir_all(dir.path().join("root/images").join(leftover)).unwrap();
    }
    let records = support::records(dir.path()).await;
    let mut config = registry.config(dir.path());
    config.pinned = vec!["r.test/*".to_owned()];
    let store = cricket_image::ImageStore::open(config, records).await.unwrap();
    assert!(store.list()[0].pinned);
    store.unpin("r.test/repo:v1").await.unwrap();
    assert!(!store.list()[0].pinned);
    assert_eq!(store.pin("r.test/none").await.unwrap_err().kind(), ErrorKind::NotFound);
    eventually("leftovers to go", || {
        names(dir.path(), "staging").is_empty()
            && names(dir.path(), "trash").is_empty()
            && names(dir.path(), "layers").len() == 2
    })
    .await;
    use std::os::unix::fs::MetadataExt;
    let mode = |path: &str| dir.path().join(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("root"), mode("state")), (0o700, 0o711));
}
