//! Loading images from files, as tools write them.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::path::{Path, PathBuf};

use cricket_model::{ErrorKind, Kinded};
use support::{Made, Registry, gzip, image, layer, names, sha};

fn made() -> Made {
    image("loaded", &[layer(&[("etc/", "755"), ("etc/a", "a")]), layer(&[("b", "b")])])
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// An OCI layout with an index in the index, whose other entry is for another platform.
fn layout(dir: &Path, made: &Made, name: &str) -> PathBuf {
    let layout = dir.join("layout");
    for blob in made.layers.iter().chain([&made.manifest, &made.config]) {
        write(&layout, &format!("blobs/sha256/{}", sha(blob).hex()), blob);
    }
    let other = sha(b"not here");
    let arch = cricket_image::host_platform().architecture;
    let inner = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "m", "digest": other, "size": 1, "platform": {"os": "plan9", "architecture": "mips"}},
        {"mediaType": "m", "digest": sha(&made.manifest), "size": made.manifest.len(),
         "platform": {"os": "linux", "architecture": arch}},
    ]});
    let inner = serde_json::to_vec(&inner).unwrap();
    write(&layout, &format!("blobs/sha256/{}", sha(&inner).hex()), &inner);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "i", "digest": sha(&inner), "size": inner.len(),
         "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "v1"}},
    ]});
    write(&layout, "index.json", &serde_json::to_vec(&index).unwrap());
    write(&layout, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    layout
}

fn tar_of(dir: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", dir).unwrap();
    tar.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn oci_layouts_as_directory_tar_and_gzip() {
    let made = made();
    for form in ["dir", "tar", "gz"] {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
        let mut path = layout(dir.path(), &made, "example.test/app:v1");
        if form != "dir" {
            let tar = tar_of(&path);
            std::fs::remove_dir_all(&path).unwrap();
            path = dir.path().join("archive");
            std::fs::write(&path, if form == "gz" { gzip(&tar) } else { tar }).unwrap();
        }
        let store = registry.store(dir.path()).await;
        let images = store.import(&path).await.unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].id, made.id);
        assert_eq!(images[0].tags, ["example.test/app:v1"]);
        assert_eq!(store.find("example.test/app:v1").unwrap().unwrap().id, made.id);
        support::eventually("the staging to be empty", || names(dir.path(), "staging").is_empty()).await;

        // The file is gone, no registry has it: damage is healed from the kept blobs.
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap()
        } else {
            std::fs::remove_file(&path).unwrap()
        }
        let fs = dir.path().join("root/images/layers").join(made.diff_ids[0].hex()).join("fs");
        std::fs::remove_file(fs.join("etc/a")).unwrap();
        let damage = store.verify().await.unwrap();
        assert_eq!(damage[0].details, ["etc/a: is missing"], "{form}");
        store.heal(&damage).await.unwrap();
        assert_eq!(std::fs::read(fs.join("etc/a")).unwrap(), b"a");
        store.remove(made.id.as_str()).await.unwrap();
        support::eventually("the blobs to go", || names(dir.path(), "blobs").is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_archives_of_old_and_new() {
    let made = made();
    let tars = [layer(&[("etc/", "755"), ("etc/a", "a")]), layer(&[("b", "b")])];
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let config = format!("{}.json", made.id.hex());
    add(&config, &made.config);
    add("aaa/layer.tar", &tars[0]);
    add("bbb/real.tar", &tars[1]);
    let manifest = serde_json::json!([{
        "Config": config, "RepoTags": ["app:1", "host.test:5000/x/app:2"], "Layers": ["aaa/layer.tar", "bbb/layer.tar"],
    }]);
    add("manifest.json", &serde_json::to_vec(&manifest).unwrap());
    // Layers that an image shares with another are links.
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    link.set_uid(0);
    link.set_gid(0);
    link.set_mtime(0);
    tar.append_link(&mut link, "bbb/layer.tar", "../bbb/real.tar").unwrap();
    let path = dir.path().join("saved.tar");
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    let store = registry.store(dir.path()).await;
    let images = store.import(&path).await.unwrap();
    assert_eq!(images[0].id, made.id);
    assert_eq!(images[0].tags, ["docker.io/library/app:1", "host.test:5000/x/app:2"]);
    assert!(images[0].repo_digests.is_empty());
    assert_eq!(images[0].reference_for("app:1"), made.id.to_string());
    let fs = dir.path().join("root/images/layers").join(made.diff_ids[1].hex()).join("fs");
    assert_eq!(std::fs::read(fs.join("b")).unwrap(), b"b");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_archive_or_lies_is_refused() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let store = registry.store(dir.path()).await;
    let (path, empty) = (dir.path().join("x"), tempfile::tempdir().unwrap());
    for content in [b"garbage".to_vec(), tar_of(empty.path()), vec![0x1f, 0x8b, 0, 0]] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(store.import(&path).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert!(store.import(&dir.path().join("none")).await.is_err());
    let made = made();
    for damaged in [&made.config, &made.manifest, &made.layers[1]] {
        let layout = layout(dir.path(), &made, "app:1");
        let name = format!("blobs/sha256/{}", sha(damaged).hex());
        let mut bytes = damaged.clone();
        *bytes.last_mut().unwrap() ^= 1;
        write(&layout, &name, &bytes);
        assert_eq!(store.import(&layout).await.unwrap_err().kind(), ErrorKind::DataLoss);
    }
    // A layout cannot name files outside of it.
    let layout = layout(dir.path(), &made, "app:1");
    std::fs::remove_file(layout.join("index.json")).unwrap();
    write(&layout, "manifest.json", br#"[{"Config":"../../etc/passwd","RepoTags":null,"Layers":[]}]"#);
    assert_eq!(store.import(&layout).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(store.list().is_empty());
}
