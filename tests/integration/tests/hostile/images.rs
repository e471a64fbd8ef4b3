//! What the bytes of an image may try.

use std::fs;

use anyhow::Result;
use cricket_integration::BUSYBOX;
use cricket_testkit::cri;
use cricket_testkit::image::{EntryType, Layer, Tree};
use serde_json::json;
use tonic::Code;

use crate::support::{SOON, Scene, idle};

#[tokio::test]
async fn links_in_place_of_dev_proc_and_sys_are_refused() -> Result<()> {
    let scene = Scene::new("links").await?;
    for name in ["dev", "proc", "sys"] {
        let outside = scene.node.daemon.home().join(format!("outside-{name}"));
        fs::create_dir(&outside)?;
        let layer = Layer::gzip(Tree::new().symlink(name, &outside.display().to_string()))?;
        let image = scene.image(&format!("link-{name}"), |image| image.layer(layer)).await?;
        let error = scene.run(&idle(name, &image)).await.expect_err("a link is refused");
        assert!(error.message().contains(&format!("/{name} ")), "names the path: {error}");
        assert_eq!(fs::read_dir(&outside)?.count(), 0, "{name}: nothing was made on the host");
    }
    scene.end().await
}

#[tokio::test]
async fn a_link_in_place_of_etc_does_not_lead_out() -> Result<()> {
    let scene = Scene::new("etc").await?;
    let outside = scene.node.daemon.home().join("outside-etc");
    fs::create_dir(&outside)?;
    let layer = Layer::gzip(Tree::new().symlink("etc", &outside.display().to_string()))?;
    let image = scene.image("link-etc", |image| image.layer(layer).user("0")).await?;
    // Whether it is refused or the files are made inside: the host's directory stays empty.
    let _ = scene.run(&idle("main", &image)).await;
    assert_eq!(fs::read_dir(&outside)?.count(), 0);
    scene.end().await
}

#[tokio::test]
async fn users_that_overflow_are_refused_by_name() -> Result<()> {
    let scene = Scene::new("users").await?;
    let thirty = "9".repeat(30);
    for (n, user) in ["2147483648", "4294967296", "-1", "+0", &thirty, "0:4294967296", "1000:-1", "nobody-of-this-name"]
        .into_iter()
        .enumerate()
    {
        let image = scene.image(&format!("user-{n}"), |image| image.user(user)).await?;
        let error = scene.create(&idle(&format!("user-{n}"), &image)).await.expect_err(user);
        let named = user.rsplit(':').next().unwrap_or(user);
        assert_eq!(error.code(), Code::InvalidArgument, "{user}: {error}");
        assert!(error.message().contains("USER") && error.message().contains(named), "{user}: {error}");
    }
    scene.end().await
}

#[tokio::test]
async fn volumes_that_lead_upwards_show_nothing_of_the_host() -> Result<()> {
    let scene = Scene::new("volumes").await?;
    let secret = scene.node.daemon.home().join("secret");
    fs::create_dir(&secret)?;
    fs::write(secret.join("file"), "of the host")?;
    let upwards = format!("/../../../../../../../..{}", secret.display());
    for (n, volume) in [upwards.as_str(), "/../../etc", "relative/../../../etc"].into_iter().enumerate() {
        let image = scene.image(&format!("volume-{n}"), |image| image.set("Volumes", json!({ volume: {} }))).await?;
        let Ok(id) = scene.run(&idle(&format!("volume-{n}"), &image)).await else { continue };
        let plain = secret.display();
        assert_eq!(scene.sh(&id, &format!("cat {plain}/file 2>/dev/null; true")).await?, "", "{volume}");
        // Its own file, which no file of a host has as its first lines and no more.
        assert!(scene.sh(&id, "cat /etc/passwd").await?.starts_with("root:x:0:0:root:/root:/bin/sh\ndaemon:"));
    }
    assert_eq!(fs::read_to_string(secret.join("file"))?, "of the host");
    assert_eq!(fs::read_dir(&secret)?.count(), 1);
    scene.end().await
}

#[tokio::test]
async fn working_directories_through_descriptors_do_not_work() -> Result<()> {
    let scene = Scene::new("workdir").await?;
    for fd in 3..=64 {
        let mut config = cri::container(&format!("fd-{fd}"), BUSYBOX, &["sh", "-c", "ls -a ../../.."]);
        config.working_dir = format!("/proc/self/fd/{fd}");
        let error = scene.run(&config).await.expect_err("no descriptor is there to be used");
        assert!(error.message().contains("/proc/self/fd"), "{error}");
    }
    let image = scene.image("workdir", |image| image.set("WorkingDir", "/proc/self/fd/7")).await?;
    assert!(scene.run(&idle("image", &image)).await.is_err());
    scene.end().await
}

#[tokio::test]
async fn labels_of_an_image_steer_nothing() -> Result<()> {
    let scene = Scene::new("labels").await?;
    let labels = json!({
        "io.cri-containerd.pinned": "pinned",
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri-o.ContainerType": "sandbox",
        "io.kubernetes.pod.name": "another",
        "org.systemd.property.TimeoutStopUSec": "1",
        "run.oci.handler": "wasm",
    });
    let image = scene.image("labels", |image| image.set("Labels", labels)).await?;
    assert!(!scene.cri.image(&image).await?.expect("the image").pinned);
    let id = scene.run(&idle("main", &image)).await?;
    let status = scene.cri.container(&id).await?;
    assert!(status.labels.is_empty() && status.annotations.is_empty(), "{status:?}");
    scene.end().await
}

#[tokio::test]
async fn variables_with_newlines_write_no_accounts() -> Result<()> {
    let scene = Scene::new("home").await?;
    let image = scene.image("home", |image| image.env(&["HOME=/x\nevil:x:0:0::/:/bin/sh"])).await?;
    if let Ok(id) = scene.run(&idle("main", &image)).await {
        assert_eq!(scene.sh(&id, "grep -c evil /etc/passwd || true").await?, "0");
    }
    scene.end().await
}

#[tokio::test]
async fn a_fifo_or_device_for_passwd_holds_nothing_up() -> Result<()> {
    let scene = Scene::new("fifo").await?;
    let kinds = [(EntryType::Fifo, 0, 0), (EntryType::Char, 1, 5)];
    for (n, (kind, major, minor)) in kinds.into_iter().enumerate() {
        let tree = Tree::new().dirs(["etc"]).device("etc/passwd", kind, major, minor);
        let layer = Layer::gzip(tree)?;
        let image = scene.image(&format!("fifo-{n}"), |image| image.layer(layer).user("somebody")).await?;
        let config = idle(&format!("fifo-{n}"), &image);
        assert!(tokio::time::timeout(SOON, scene.create(&config)).await?.is_err(), "there is no such user");
    }
    scene.end().await
}
