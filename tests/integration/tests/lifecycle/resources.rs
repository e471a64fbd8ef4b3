//! Limits, their update, what happens when memory runs out, and the cgroups themselves.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_testkit::cri;

use crate::support::{SOON, Scene, idle, node, shell};

const MIB: i64 = 1 << 20;

fn limits(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

/// Whether the host's first hierarchy is cgroup v1.
fn is_v1() -> bool {
    Path::new("/sys/fs/cgroup/memory").is_dir()
}

/// A file of a container's cgroup: its name on v1 (with the controller) and on v2.
fn file(scene: &Scene, id: &str, v1: &str, v2: &str) -> Result<String> {
    let parent = scene.pod.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
    let (controller, name) = if is_v1() { v1.split_once('/').context("controller/file")? } else { ("", v2) };
    let path = PathBuf::from("/sys/fs/cgroup")
        .join(controller)
        .join(parent.trim_start_matches('/'))
        .join(cricket_testkit::host::container_cgroup(id))
        .join(name);
    Ok(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?.trim().to_owned())
}

async fn update(scene: &Scene, id: &str, change: v1::LinuxContainerResources) -> cri::Answer<()> {
    let request =
        v1::UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(change), ..Default::default() };
    scene.cri.runtime().update_container_resources(request).await.map(drop)
}

#[tokio::test]
async fn limits_are_in_the_cgroup_and_in_the_status() -> Result<()> {
    let scene = Scene::host("res-limits").await?;
    let mut config = idle("main");
    *limits(&mut config) = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 * MIB,
        cpuset_cpus: "0".into(),
        oom_score_adj: 900,
        ..Default::default()
    };
    let main = scene.run(&config).await?;
    assert_eq!(file(&scene, &main, "memory/memory.limit_in_bytes", "memory.max")?, (64 * MIB).to_string());
    assert_eq!(file(&scene, &main, "cpuset/cpuset.cpus", "cpuset.cpus")?, "0");
    if is_v1() {
        assert_eq!(file(&scene, &main, "cpu/cpu.cfs_quota_us", "")?, "50000");
        assert_eq!(file(&scene, &main, "cpu/cpu.shares", "")?, "512");
    } else {
        assert_eq!(file(&scene, &main, "", "cpu.max")?, "50000 100000");
    }
    assert_eq!(scene.sh(&main, "cat /proc/1/oom_score_adj").await?, "900");
    assert_eq!(scene.sh(&main, "cat /proc/self/oom_score_adj").await?, "900", "an exec is killed as its container");
    let status = scene.cri.container(&main).await?;
    assert_eq!(
        status.resources.and_then(|r| r.linux).as_ref(),
        config.linux.as_ref().and_then(|l| l.resources.as_ref())
    );
    scene.end().await
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() -> Result<()> {
    let scene = Scene::host("res-update").await?;
    let mut config = idle("main");
    *limits(&mut config) = v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 * MIB,
        ..Default::default()
    };
    let main = scene.run(&config).await?;
    update(&scene, &main, v1::LinuxContainerResources { memory_limit_in_bytes: 96 * MIB, ..Default::default() })
        .await?;
    let memory = || file(&scene, &main, "memory/memory.limit_in_bytes", "memory.max");
    let cpu = || file(&scene, &main, "cpu/cpu.cfs_quota_us", "cpu.max").map(|text| text.starts_with("50000"));
    assert_eq!((memory()?, cpu()?), ((96 * MIB).to_string(), true));
    // Only a cpuset: what a CPU manager sends.
    update(&scene, &main, v1::LinuxContainerResources { cpuset_cpus: "0".into(), ..Default::default() }).await?;
    assert_eq!(file(&scene, &main, "cpuset/cpuset.cpus", "cpuset.cpus")?, "0");
    assert_eq!((memory()?, cpu()?), ((96 * MIB).to_string(), true));
    let applied = scene.cri.container(&main).await?.resources.and_then(|r| r.linux).unwrap_or_default();
    assert_eq!((applied.memory_limit_in_bytes, applied.cpu_quota, applied.cpu_shares), (96 * MIB, 50_000, 512));
    assert_eq!(applied.cpuset_cpus, "0");

    // All or nothing: memory would be fine, the processor does not exist.
    let bad = v1::LinuxContainerResources {
        memory_limit_in_bytes: 128 * MIB,
        cpuset_cpus: "4000".into(),
        ..Default::default()
    };
    update(&scene, &main, bad).await.expect_err("there is no such processor");
    assert_eq!(memory()?, (96 * MIB).to_string());
    let applied = scene.cri.container(&main).await?.resources.and_then(|r| r.linux).unwrap_or_default();
    assert_eq!(applied.memory_limit_in_bytes, 96 * MIB);
    scene.end().await
}

#[tokio::test]
async fn a_created_container_takes_an_update() -> Result<()> {
    let scene = Scene::host("res-created").await?;
    let mut config = idle("main");
    limits(&mut config).memory_limit_in_bytes = 64 * MIB;
    let main = scene.cri.create(&scene.id, &config, &scene.pod).await?;
    update(&scene, &main, v1::LinuxContainerResources { memory_limit_in_bytes: 80 * MIB, ..Default::default() })
        .await?;
    scene.cri.start(&main).await?;
    assert_eq!(file(&scene, &main, "memory/memory.limit_in_bytes", "memory.max")?, (80 * MIB).to_string());
    scene.cri.stop(&main, 0).await?;
    let error = update(&scene, &main, v1::LinuxContainerResources { cpu_shares: 5, ..Default::default() }).await;
    assert_eq!(error.expect_err("has ended").code(), tonic::Code::FailedPrecondition);
    let error = update(&scene, &"e".repeat(64), v1::LinuxContainerResources::default()).await;
    assert_eq!(error.expect_err("unknown").code(), tonic::Code::NotFound);
    scene.end().await
}

#[tokio::test]
async fn out_of_memory_is_told_from_a_kill() -> Result<()> {
    let scene = Scene::host("res-oom").await?;
    let with_limit = |name: &str, script: &str| {
        let mut config = shell(name, script);
        limits(&mut config).memory_limit_in_bytes = 24 * MIB;
        config
    };
    // tail keeps what it reads: 100 MB without a newline.
    let eater = scene.run(&with_limit("eater", "exec tail -c 100000000 /dev/zero")).await?;
    let status = scene.cri.wait_exit(&eater, SOON).await?;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    let killed = scene.run(&with_limit("killed", "kill -9 $$; sleep 1000")).await?;
    scene.cri.stop(&killed, 0).await?;
    let status = scene.cri.wait_exit(&killed, SOON).await?;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    scene.end().await
}

#[tokio::test]
async fn the_containers_cgroup_is_a_leaf_of_the_pods() -> Result<()> {
    let scene = Scene::host("res-leaf").await?;
    let main = scene.idle("main").await?;
    let parent = scene.pod.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
    let pid = scene.pid(&main).await?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let controllers: Vec<&str> = text.lines().filter(|l| !l.contains(":name=") && !l.starts_with("0::")).collect();
    let leaf = format!("{parent}/{}", cricket_testkit::host::container_cgroup(&main));
    if is_v1() {
        assert!(!controllers.is_empty());
        for line in &controllers {
            assert!(line.ends_with(&format!(":{leaf}")), "{line}");
        }
    } else {
        assert!(text.contains(&format!("0::{leaf}")), "{text}");
    }
    assert_eq!(main.len(), 64);
    // Nothing is written to the pod's own cgroup: that is the kubelet's.
    let dir =
        PathBuf::from("/sys/fs/cgroup").join(if is_v1() { "memory" } else { "" }).join(parent.trim_start_matches('/'));
    let limit = std::fs::read_to_string(dir.join(if is_v1() { "memory.limit_in_bytes" } else { "memory.max" }))?;
    assert!(limit.trim() == "max" || limit.trim().parse::<u64>()? > 1 << 60, "{limit}");
    scene.end().await
}

#[tokio::test]
async fn parents_go_with_their_last_pod_only_where_they_were_made_for_it() -> Result<()> {
    if cricket_testkit::host::systemd_driver() {
        cricket_testkit::host::skip("slices are systemd's to make and to remove");
        return Ok(());
    }
    let node = node().await?;
    let dir = |parent: &str| {
        let root = if is_v1() { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
        PathBuf::from(root).join(parent.trim_start_matches('/'))
    };
    // As critest and crictl do: a parent that nobody has made.
    let mut pod = cri::host_network(node.daemon.pod("res-parent-made"));
    let made = format!("/{}/made/deeper", node.daemon.mark());
    pod.linux.get_or_insert_default().cgroup_parent.clone_from(&made);
    let scene = Scene::with(node.clone(), pod).await?;
    scene.idle("main").await?;
    assert!(dir(&made).exists());
    scene.end().await?;
    assert!(!dir(&made).exists() && !dir(&format!("/{}/made", node.daemon.mark())).exists());
    // As a kubelet does: it has made the parent, and removes it itself.
    let mut pod = cri::host_network(node.daemon.pod("res-parent-own"));
    let own = format!("/{}/own", node.daemon.mark());
    pod.linux.get_or_insert_default().cgroup_parent.clone_from(&own);
    let controllers: Vec<PathBuf> = if is_v1() {
        let all = std::fs::read_dir("/sys/fs/cgroup")?.flatten().map(|e| e.path());
        all.filter(|p| p.join("cgroup.procs").exists()).collect()
    } else {
        vec![PathBuf::from("/sys/fs/cgroup")]
    };
    for controller in &controllers {
        std::fs::create_dir_all(controller.join(own.trim_start_matches('/')))?;
    }
    let scene = Scene::with(node.clone(), pod).await?;
    scene.idle("main").await?;
    scene.end().await?;
    for controller in &controllers {
        let path = controller.join(own.trim_start_matches('/'));
        assert!(path.exists(), "{} was the kubelet's", path.display());
        std::fs::remove_dir(&path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn the_pods_limit_kills_one_and_is_not_told_of_the_other() -> Result<()> {
    let scene = Scene::host("res-pod-oom").await?;
    // With the first container the pod's cgroup is there; whose limits are the kubelet's.
    let quiet = scene.idle("quiet").await?;
    let parent = scene.pod.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
    let limit = (32 * MIB).to_string();
    if cricket_testkit::host::systemd_driver() {
        let slice = parent.rsplit('/').next().unwrap_or_default();
        let property = format!("MemoryMax={limit}");
        cricket_testkit::host::run("systemctl", ["set-property", "--runtime", slice, &property])?;
    } else {
        let (mount, name) = if is_v1() { ("memory", "memory.limit_in_bytes") } else { ("", "memory.max") };
        let file = PathBuf::from("/sys/fs/cgroup").join(mount).join(parent.trim_start_matches('/')).join(name);
        std::fs::write(&file, limit).with_context(|| file.display().to_string())?;
    }
    let eater = scene.run(&shell("eater", "exec tail -c 100000000 /dev/zero")).await?;
    let status = scene.cri.wait_exit(&eater, SOON).await?;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    // The notification of the pod's limit reaches every container in it; only the counters tell them apart.
    scene.cri.stop(&quiet, 5).await?;
    let status = scene.cri.container(&quiet).await?;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    scene.end().await
}
