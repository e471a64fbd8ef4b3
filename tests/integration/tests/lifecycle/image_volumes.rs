//! Images as volumes (KEP-4639).

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::cri;
use cricket_testkit::image::{Layer, Tree};
use tonic::Code;

use crate::support::{Scene, idle, node, pod_security, security};

fn volume(image: &str, sub_path: &str, at: &str) -> v1::Mount {
    v1::Mount {
        container_path: at.into(),
        image: Some(v1::ImageSpec { image: image.into(), ..Default::default() }),
        image_sub_path: sub_path.into(),
        readonly: true,
        ..Default::default()
    }
}

/// Two layers of data, and links that would lead elsewhere on the host.
async fn data(node: &Node, name: &str) -> Result<String> {
    let low = Tree::new().dirs(["data/dir"]).file("data/dir/low", 0o644, "low").file("data/old", 0o644, "old");
    let high = Tree::new()
        .file("data/old", 0o644, "new")
        .symlink("data/host", "/etc")
        .symlink("data/up", "../../../../../../data/dir");
    let (low, high) = (Layer::gzip(low)?, Layer::gzip(high)?);
    node.image(&format!("lifecycle/{name}"), |image| image.layer(low).layer(high)).await
}

fn mounts_below(path: &std::path::Path) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter(|line| line.contains(&format!("{}/", path.display()))).count())
}

#[tokio::test]
async fn an_image_is_a_read_only_volume() -> Result<()> {
    let scene = Scene::host("image-volume").await?;
    let image = data(&scene.node, "image-volume").await?;
    let mut config = idle("main");
    config.mounts = vec![
        volume(&image, "", "/whole"),
        volume(&image, "data/dir", "/part"),
        volume(&image, "data/up", "/linked"),
        v1::Mount { readonly: false, ..volume(&image, "data/old", "/file") },
    ];
    let main = scene.run(&config).await?;
    let read = "cat /whole/data/old /part/low /linked/low /file";
    assert_eq!(scene.sh(&main, read).await?, "newlowlownew");
    for path in ["/whole/new", "/part/low", "/file"] {
        let script = format!("echo x > {path}");
        let done = scene.cri.exec(&main, &["sh", "-c", &script], 5).await?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.exit_code != 0 && said.contains("Read-only file system"), "{path}: {said}");
    }
    let status = scene.cri.container(&main).await?;
    let known = scene.cri.image(&image).await?.context("the image")?;
    let reported = status.mounts.first().and_then(|mount| mount.image.clone()).context("the mount's image")?;
    assert_eq!(reported.image, image);
    assert!(known.repo_digests.contains(&reported.image_ref), "{} of {:?}", reported.image_ref, known.repo_digests);

    // The image's removal does not take its files away.
    scene.cri.remove_image(&image).await?;
    assert_eq!(scene.sh(&main, read).await?, "newlowlownew");
    scene.end().await
}

#[tokio::test]
async fn its_ids_are_those_of_the_pod() -> Result<()> {
    let ids = v1::IdMapping { host_id: 1 << 24, container_id: 0, length: 1 << 16 };
    let users = v1::UserNamespace { mode: v1::NamespaceMode::Pod.into(), uids: vec![ids], gids: vec![ids] };
    let node = node().await?;
    let mut pod = node.daemon.pod("image-volume-users");
    pod_security(&mut pod).namespace_options.get_or_insert_default().userns_options = Some(users.clone());
    let scene = Scene::with(node, pod).await?;
    let image = data(&scene.node, "image-volume-users").await?;
    let mut config = idle("main");
    security(&mut config).namespace_options.get_or_insert_default().userns_options = Some(users);
    // As a kubelet says it of every volume.
    let mapped = v1::Mount { uid_mappings: vec![ids], gid_mappings: vec![ids], ..volume(&image, "data/dir", "/part") };
    config.mounts = vec![volume(&image, "", "/whole"), mapped];
    let main = scene.run(&config).await?;
    let read = "stat -c %u:%g /whole/data /whole/data/old /part/low; cat /part/low";
    assert_eq!(scene.sh(&main, read).await?, "0:0\n0:0\n0:0\nlow");
    scene.end().await
}

#[tokio::test]
async fn what_is_not_in_the_image_is_refused_and_leaves_nothing() -> Result<()> {
    let scene = Scene::host("image-volume-bad").await?;
    let image = data(&scene.node, "image-volume-bad").await?;
    let state = scene.node.daemon.state().join("pods").join(&scene.id);
    let rows = [
        (volume(&image, "data/none", "/a"), Code::InvalidArgument, "mounts[1].image_sub_path"),
        // The host has it, the image has not.
        (volume(&image, "data/host/passwd-", "/a"), Code::InvalidArgument, "mounts[1].image_sub_path"),
        (volume(&image, "../etc", "/a"), Code::InvalidArgument, "mounts[1].image_sub_path"),
        (volume("registry.k8s.io/lifecycle/none:1", "", "/a"), Code::NotFound, "mounts[1]"),
        (
            v1::Mount { host_path: "/tmp".into(), ..volume(&image, "", "/a") },
            Code::InvalidArgument,
            "mounts[1].host_path",
        ),
    ];
    let before = mounts_below(&state)?;
    for (mount, code, field) in rows {
        let mut config = idle("main");
        config.mounts = vec![volume(&image, "data", "/good"), mount];
        let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err(field);
        assert!(error.code() == code && error.message().contains(field), "{field}: {error}");
        assert_eq!(mounts_below(&state)?, before, "{field}");
    }
    scene.end().await
}

#[tokio::test]
async fn it_outlives_the_daemon_and_goes_with_its_container() -> Result<()> {
    let mut node = Node::start().await?;
    let image = data(&node, "image-volume-restart").await?;
    let pod = cri::host_network(node.daemon.pod("image-volume-restart"));
    let cri = node.daemon.cri().await?;
    let sandbox = cri.run_pod(&pod).await?;
    let mut config = idle("main");
    config.mounts = vec![volume(&image, "data", "/data")];
    let main = cri.run(&sandbox, &config, &pod).await?;
    cri.remove_image(&image).await?;
    node.daemon.kill_and_launch()?;
    let cri = node.daemon.cri().await?;
    assert_eq!(cri.exec_text(&main, &["cat", "/data/dir/low"]).await?, "low");
    cri.stop(&main, 0).await?;
    cri.remove(&main).await?;
    assert!(!node.daemon.state().join("pods").join(&sandbox).join("c").join(&main).exists());
    cri.remove_all_pods().await?;
    node.daemon.assert_no_leaks(std::time::Duration::from_secs(10))
}
