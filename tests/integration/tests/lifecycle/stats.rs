//! What containers and pods use.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cricket_cri_api::v1;

use crate::support::{Node, SOON, Scene, idle, node, shell, until};

fn value(v: &Option<v1::UInt64Value>) -> u64 {
    v.as_ref().map_or(0, |v| v.value)
}

async fn stats(scene: &Scene, id: &str) -> Result<v1::ContainerStats> {
    let request = v1::ContainerStatsRequest { container_id: id.to_owned() };
    scene.cri.runtime().container_stats(request).await?.into_inner().stats.context("stats")
}

#[tokio::test]
async fn a_containers_use_of_processor_memory_and_disk() -> Result<()> {
    // A daemon of its own: rates are of the time since anybody has asked, and lists ask for every container; what is on
    // the disk is looked at again only after a while.
    let scene = Scene::with_own(Node::start().await?, "stats-container").await?;
    let script = "head -c 3000000 /dev/zero > /file; while :; do :; done";
    let main = scene.run(&shell("main", script)).await?;
    until("the file to be written", || async { Ok(scene.sh(&main, "stat -c %s /file").await? == "3000000") }).await?;
    let mut first = stats(&scene, &main).await?;
    let cpu = |s: &v1::ContainerStats| s.cpu.unwrap_or_default();
    let began = Instant::now();
    let (second, used, elapsed) = loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let second = stats(&scene, &main).await?;
        let (a, b) = (cpu(&first), cpu(&second));
        let used = value(&b.usage_core_nano_seconds).saturating_sub(value(&a.usage_core_nano_seconds));
        let elapsed = u64::try_from(b.timestamp - a.timestamp)?;
        // On a busy machine it may have to wait for its turn.
        if used > 20_000_000 {
            break (second, used, elapsed);
        }
        assert!(began.elapsed() < SOON, "a busy loop for half a second used {used} ns");
        first = second;
    };
    let b = cpu(&second);
    // From the last two readings.
    let rate = value(&b.usage_nano_cores);
    let expected = used * 1_000_000_000 / elapsed;
    assert!(rate.abs_diff(expected) <= expected / 20, "{rate} nanocores, not {expected}");
    let memory = second.memory.unwrap_or_default();
    assert!(value(&memory.working_set_bytes) > 0 && value(&memory.usage_bytes) >= value(&memory.working_set_bytes));
    let disk = second.writable_layer.clone().context("the writable layer")?;
    assert!(value(&disk.used_bytes) >= 3_000_000 && value(&disk.inodes_used) >= 1, "{disk:?}");
    let mountpoint = disk.fs_id.unwrap_or_default().mountpoint;
    assert!(std::path::Path::new(&mountpoint).is_dir(), "the kubelet asks statfs about {mountpoint}");
    let attributes = second.attributes.unwrap_or_default();
    assert_eq!((attributes.id, attributes.metadata.unwrap_or_default().name), (main.clone(), "main".to_owned()));
    scene.end().await
}

#[tokio::test]
async fn lists_have_the_running_ones_and_take_filters() -> Result<()> {
    let scene = Scene::host("stats-list").await?;
    let mut labelled = idle("labelled");
    labelled.labels = HashMap::from([("k".into(), "v".into())]);
    let one = scene.run(&labelled).await?;
    let two = scene.idle("two").await?;
    let ended = scene.run(&shell("ended", "true")).await?;
    scene.cri.wait_exit(&ended, SOON).await?;
    let list = |filter: v1::ContainerStatsFilter| {
        let mut client = scene.cri.runtime();
        async move {
            let answer = client.list_container_stats(v1::ListContainerStatsRequest { filter: Some(filter) }).await?;
            let mut ids: Vec<String> =
                answer.into_inner().stats.into_iter().filter_map(|s| s.attributes).map(|a| a.id).collect();
            ids.sort();
            Ok::<_, tonic::Status>(ids)
        }
    };
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    let of_pod = v1::ContainerStatsFilter { pod_sandbox_id: scene.id.clone(), ..Default::default() };
    assert_eq!(list(of_pod).await?, both);
    let by_label = v1::ContainerStatsFilter {
        pod_sandbox_id: scene.id[..20].to_owned(),
        label_selector: HashMap::from([("k".into(), "v".into())]),
        ..Default::default()
    };
    assert_eq!(list(by_label).await?, [one.as_str()]);
    let by_id = v1::ContainerStatsFilter { id: two[..20].to_owned(), ..Default::default() };
    assert_eq!(list(by_id).await?, [two.as_str()]);
    let unknown = v1::ContainerStatsFilter { id: "f".repeat(64), ..Default::default() };
    assert_eq!(list(unknown).await?, Vec::<String>::new());

    // Seventeen of them, so that two begin alike.
    let mut digits: HashMap<String, usize> = HashMap::new();
    for n in 0..17 {
        let id = scene.idle(&format!("many-{n}")).await?;
        *digits.entry(id[..1].to_owned()).or_default() += 1;
    }
    let ambiguous = digits.into_iter().find(|(_, n)| *n > 1).map(|(d, _)| d).context("two alike")?;
    let error = list(v1::ContainerStatsFilter { id: ambiguous, ..Default::default() }).await.expect_err("ambiguous");
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    scene.end().await
}

#[tokio::test]
async fn a_vanishing_container_fails_no_list() -> Result<()> {
    let scene = Scene::host("stats-vanish").await?;
    let lister = scene.cri.clone();
    let listing = tokio::spawn(async move {
        for _ in 0..300 {
            lister.runtime().list_container_stats(v1::ListContainerStatsRequest { filter: None }).await?;
            lister.runtime().list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest { filter: None }).await?;
        }
        Ok::<_, tonic::Status>(())
    });
    for n in 0..6 {
        let id = scene.idle(&format!("c{n}")).await?;
        scene.cri.stop(&id, 0).await?;
        scene.cri.remove(&id).await?;
    }
    listing.await??;
    scene.end().await
}

#[tokio::test]
async fn a_pods_use_with_its_network_and_processes() -> Result<()> {
    let scene = Scene::networked("stats-pod").await?;
    let main = scene.idle("main").await?;
    let gateway = scene.node.daemon.network().gateway();
    scene.sh(&main, &format!("ping -c 3 -i 0.2 -s 1000 {gateway} >/dev/null")).await?;
    let request = v1::PodSandboxStatsRequest { pod_sandbox_id: scene.id.clone() };
    let answer = scene.cri.runtime().pod_sandbox_stats(request).await?.into_inner();
    let pod = answer.stats.context("stats")?;
    assert_eq!(pod.attributes.unwrap_or_default().id, scene.id);
    let linux = pod.linux.context("linux")?;
    let network = linux.network.context("network")?;
    let interface = network.default_interface.context("a default interface")?;
    assert_eq!(interface.name, "eth0");
    assert!(value(&interface.tx_bytes) > 3000 && value(&interface.rx_bytes) > 3000, "{interface:?}");
    assert!(value(&linux.process.unwrap_or_default().process_count) >= 2, "a shell and its sleep");
    assert!(value(&linux.cpu.unwrap_or_default().usage_core_nano_seconds) > 0);
    assert!(value(&linux.memory.unwrap_or_default().working_set_bytes) > 0);
    assert_eq!(linux.containers.len(), 1);
    let filter = v1::PodSandboxStatsFilter { id: scene.id[..20].to_owned(), ..Default::default() };
    let request = v1::ListPodSandboxStatsRequest { filter: Some(filter) };
    let list = scene.cri.runtime().list_pod_sandbox_stats(request).await?.into_inner().stats;
    assert_eq!(list.len(), 1);
    scene.end().await
}

#[tokio::test]
async fn the_images_file_system_exists_and_is_used() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let info = cri.images().image_fs_info(v1::ImageFsInfoRequest {}).await?.into_inner();
    for usage in info.image_filesystems.iter().chain(&info.container_filesystems) {
        let mountpoint = usage.fs_id.clone().unwrap_or_default().mountpoint;
        assert!(std::path::Path::new(&mountpoint).is_dir(), "{mountpoint}");
        assert!(usage.timestamp > 0);
    }
    assert!(info.image_filesystems.iter().any(|u| value(&u.used_bytes) > 100_000), "{info:?}");
    assert!(!info.container_filesystems.is_empty());
    Ok(())
}
