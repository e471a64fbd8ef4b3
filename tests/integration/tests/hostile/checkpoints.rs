//! Checkpoints, which cricket neither makes nor takes: what an archive of one says has no effect.

use std::fs;
use std::path::Path;

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::image::{Layer, Tree};
use serde_json::json;
use tonic::Code;

use crate::support::{Scene, idle};

/// What other runtimes know an image of a checkpoint by.
const MARKS: [&str; 6] = [
    "org.criu.checkpoint.container.name",
    "org.criu.checkpoint.engine.name",
    "io.kubernetes.cri-o.annotations.checkpoint.name",
    "io.kubernetes.cri-o.checkpoint.name",
    "io.podman.annotations.checkpoint.name",
    "org.criu.checkpoint.rootfsImageName",
];

/// An archive of a container that had a directory of the host's, every right, and a file that leads out.
fn archive(secret: &Path) -> Tree {
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": { "args": ["cat", "/stolen/file"], "env": ["RESTORED=1"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "mounts": [{ "destination": "/stolen", "source": secret, "type": "bind", "options": ["rbind", "rw"] }],
        "annotations": { "io.kubernetes.cri.container-type": "sandbox" },
        "linux": { "resources": { "devices": [{ "allow": true, "access": "rwm" }] } },
    });
    let config = json!({ "id": "f".repeat(64), "name": "restored", "rootfsImageName": BUSYBOX, "runtime": "runc" });
    let upwards = format!("../../../../../../../..{}/written", secret.display());
    Tree::new()
        .file("spec.dump", 0o600, spec.to_string())
        .file("config.dump", 0o600, config.to_string())
        .file("status.dump", 0o600, "{}")
        .file("dump.log", 0o600, "")
        .file("io.kubernetes.cri-o.LogPath", 0o600, upwards)
        .dirs(["checkpoint"])
        .file("checkpoint/inventory.img", 0o600, "")
        .file("rootfs-diff.tar", 0o600, Tree::new().symlink("escape", &secret.display().to_string()).tar())
        .file("deleted.files", 0o600, json!(["../../../../../../../../etc/passwd"]).to_string())
}

#[tokio::test]
async fn none_is_made_and_the_container_goes_on() -> Result<()> {
    let scene = Scene::new("checkpoint").await?;
    let id = scene.idle("main").await?;
    let before = scene.info(&id).await?["pid"].clone();
    let target = scene.node.daemon.home().join("checkpoint.tar");
    let request = v1::CheckpointContainerRequest {
        container_id: id.clone(),
        location: target.display().to_string(),
        timeout: 10,
    };
    let error = scene.cri.runtime().checkpoint_container(request).await.expect_err("there are none");
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
    assert!(!target.exists());
    let request = v1::CheckpointPodRequest { pod_sandbox_id: scene.id.clone(), ..Default::default() };
    let error = scene.cri.runtime().checkpoint_pod(request).await.expect_err("there are none");
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
    assert_eq!(scene.info(&id).await?["pid"], before, "the same process");
    assert_eq!(scene.sh(&id, "echo alive").await?, "alive");
    scene.end().await
}

#[tokio::test]
async fn archives_are_no_images() -> Result<()> {
    let scene = Scene::new("restore").await?;
    let home = scene.node.daemon.home();
    let secret = home.join("restore-secret");
    fs::create_dir(&secret)?;
    fs::write(secret.join("file"), "of the host")?;

    // By its path on the node, as other runtimes take them.
    let file = home.join("restore.tar");
    fs::write(&file, archive(&secret).tar())?;
    for name in [file.display().to_string(), format!("file://{}", file.display())] {
        let error = scene.create(&idle("path", &name)).await.expect_err("no path is an image");
        assert!(matches!(error.code(), Code::InvalidArgument | Code::NotFound), "{name}: {error}");
        assert!(scene.cri.pull(&name).await.is_err(), "{name}");
    }

    // As an image, with everything that says so. It is an image like any other: its files are files.
    let layer = Layer::gzip(archive(&secret))?;
    let image = scene
        .image("checkpoint", |image| {
            let labels: serde_json::Map<_, _> =
                MARKS.iter().map(|key| ((*key).to_owned(), json!("restored"))).collect();
            let marked = MARKS.iter().fold(image.layer(layer), |image, key| image.annotation(key, "restored"));
            marked.set("Labels", labels)
        })
        .await?;
    let mut config = idle("main", &image);
    config.annotations = MARKS.iter().map(|key| ((*key).to_owned(), "restored".to_owned())).collect();
    let id = scene.run(&config).await?;
    let look =
        "ls -d /stolen /escape 2>/dev/null; echo \"$RESTORED\"; test -s /spec.dump && echo kept; head -1 /etc/passwd";
    let seen = scene.sh(&id, look).await?;
    assert_eq!(seen, "\nkept\nroot:x:0:0:root:/root:/bin/sh");
    let spec = scene.info(&id).await?["runtimeSpec"].clone();
    assert!(!spec.to_string().contains("restore-secret"), "{spec}");
    assert_eq!(spec["process"]["args"], json!(config.command));
    assert_eq!(spec["annotations"]["io.kubernetes.cri.container-type"], "container");
    assert!(MARKS.iter().all(|mark| spec["annotations"].get(mark).is_none()), "{spec}");
    assert_eq!(fs::read_dir(&secret)?.count(), 1, "nothing was written outside");
    scene.end().await
}
