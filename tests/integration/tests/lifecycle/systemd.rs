//! The systemd cgroup driver: a limit that is no property of the unit would be undone by the next `daemon-reload`.
//! What has none is written again after it. Only where the daemons use that driver (`hack/vm-test --systemd`); elsewhere these tests say that they are skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cricket_cri_api::v1;
use cricket_testkit::host::{run, skip, systemd_driver};

use crate::support::{Node, SOON, Scene, idle, shell, until};

const MIB: i64 = 1 << 20;
/// Files of limits that systemd writes whenever it realizes a unit, and has properties for.
const LIMITS: [&str; 7] =
    ["cpu.max", "cpu.weight", "cpuset.cpus", "memory.high", "memory.max", "memory.swap.max", "pids.max"];

/// Whether these tests can be carried out; else it is said that they are not.
fn wanted() -> bool {
    if !systemd_driver() {
        skip("the daemons make cgroups themselves");
    }
    systemd_driver()
}

/// The cgroup of a container's init.
async fn cgroup(scene: &Scene, id: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", scene.pid(id).await?))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).context("no unified cgroup")?;
    assert!(path.ends_with(&format!("/cricket-{id}.scope")), "{path}");
    Ok(PathBuf::from("/sys/fs/cgroup").join(path))
}

/// What the files of a container's limits say.
async fn limits(scene: &Scene, id: &str) -> Result<BTreeMap<&'static str, String>> {
    let dir = cgroup(scene, id).await?;
    let value = |name| std::fs::read_to_string(dir.join(name)).map(|text| text.trim().to_owned());
    Ok(LIMITS.into_iter().filter_map(|name| Some((name, value(name).ok()?))).collect())
}

fn reload() -> Result<()> {
    run("systemctl", ["daemon-reload"]).map(drop)
}

fn limited(name: &str) -> v1::ContainerConfig {
    let mut config = idle(name);
    config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
        cpu_period: 50_000,
        cpu_quota: 20_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 * MIB,
        cpuset_cpus: "0".into(),
        unified: [("memory.high".to_owned(), "50331648".to_owned())].into(),
        ..Default::default()
    });
    config
}

#[tokio::test]
async fn limits_survive_a_reload() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::host("systemd-limits").await?;
    let main = scene.run(&limited("main")).await?;
    let want = |changed: &[(&'static str, &str)]| {
        let first = [("cpu.max", "20000 50000"), ("cpuset.cpus", "0")];
        let memory = [("memory.max", "67108864"), ("memory.swap.max", "0"), ("memory.high", "50331648")];
        let all = first.iter().chain(&memory).chain(changed);
        all.map(|(name, value)| (*name, (*value).to_owned())).collect::<BTreeMap<_, _>>()
    };
    // Of the files that are compared: the weight and the number of processes have their defaults in other units.
    let files = |mut found: BTreeMap<&'static str, String>| {
        found.retain(|name, _| want(&[]).contains_key(name));
        found
    };
    let made = limits(&scene, &main).await?;
    assert_eq!(files(made.clone()), want(&[]));
    assert_ne!(made.get("cpu.weight").map(String::as_str), Some("100"), "the default");
    reload()?;
    assert_eq!(limits(&scene, &main).await?, made);

    // An update, in parts that mean something only with what was there before.
    let changes: [(v1::LinuxContainerResources, Vec<(&'static str, &str)>); 3] = [
        (v1::LinuxContainerResources { cpu_quota: 30_000, ..Default::default() }, vec![("cpu.max", "30000 50000")]),
        (
            v1::LinuxContainerResources { memory_limit_in_bytes: 96 * MIB, ..Default::default() },
            vec![("cpu.max", "30000 50000"), ("memory.max", "100663296")],
        ),
        (
            v1::LinuxContainerResources { cpu_period: 100_000, ..Default::default() },
            vec![("cpu.max", "30000 100000"), ("memory.max", "100663296")],
        ),
    ];
    for (change, expected) in changes {
        let linux = Some(change.clone());
        let request = v1::UpdateContainerResourcesRequest { container_id: main.clone(), linux, ..Default::default() };
        scene.cri.runtime().update_container_resources(request).await?;
        let updated = limits(&scene, &main).await?;
        assert_eq!(files(updated.clone()), want(&expected), "{change:?}");
        reload()?;
        assert_eq!(limits(&scene, &main).await?, updated, "{change:?}");
    }
    scene.end().await
}

/// Limits by their files' names, as far as this kernel has the files; what each of them then says.
fn by_file(some_cgroup: &Path) -> Result<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> = [
        // What a kubelet sets for every container, and what systemd writes without a property for it.
        ("memory.oom.group", "1"),
        ("cpu.idle", "1"),
        // With a property of another name.
        ("pids.max", "300"),
        ("io.weight", "default 50"),
        // Not systemd's at all.
        ("hugetlb.2MB.max", "4194304"),
        ("memory.swap.high", "1048576"),
    ]
    .map(|(file, value)| (file.to_owned(), value.to_owned()))
    .into();
    all.retain(|file, _| some_cgroup.join(file).exists());
    let disk =
        std::fs::read_dir("/sys/block")?.flatten().find_map(|e| std::fs::read_to_string(e.path().join("dev")).ok());
    if let Some(disk) = disk.filter(|_| some_cgroup.join("io.max").exists()) {
        all.insert("io.max".into(), format!("{} rbps=1048576 wbps=max riops=max wiops=max", disk.trim()));
    }
    assert!(all.len() > 4 && all.contains_key("memory.oom.group"), "{all:?}");
    Ok(all)
}

#[tokio::test]
async fn what_has_no_property_survives_too() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let mut scene = Scene::with_own(Node::start().await?, "systemd-files").await?;
    let other = scene.idle("other").await?;
    let want = by_file(&cgroup(&scene, &other).await?)?;
    let mut config = idle("main");
    config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
        memory_limit_in_bytes: 64 * MIB,
        unified: want.clone().into_iter().collect(),
        ..Default::default()
    });
    let main = scene.run(&config).await?;
    let dir = cgroup(&scene, &main).await?;
    let found = || -> Result<BTreeMap<String, String>> {
        let value = |file: &String| std::fs::read_to_string(dir.join(file)).map(|text| text.trim().to_owned());
        Ok(want.keys().map(|file| Ok((file.clone(), value(file)?))).collect::<std::io::Result<_>>()?)
    };
    assert_eq!(found()?, want);
    // It is written again when systemd has said that the reload is over: a moment later.
    let restored = || until("the limits to be written again", || async { Ok(found()? == want) });
    for _ in 0..3 {
        reload()?;
        restored().await.with_context(|| format!("{:?}", found()))?;
    }
    // An update of something else makes systemd write all of the controller's files.
    let linux = Some(v1::LinuxContainerResources { memory_limit_in_bytes: 96 * MIB, ..Default::default() });
    let request = v1::UpdateContainerResourcesRequest { container_id: main.clone(), linux, ..Default::default() };
    scene.cri.runtime().update_container_resources(request).await?;
    assert_eq!(found()?, want, "after the update");
    // A reload that nobody was there to notice.
    let node = Arc::get_mut(&mut scene.node).context("a node of its own")?;
    node.daemon.stop()?;
    reload()?;
    node.daemon.launch()?;
    scene.cri = scene.node.daemon.cri().await?;
    restored().await.with_context(|| format!("{:?}", found()))?;
    scene.end().await
}

#[tokio::test]
async fn device_rules_survive_a_reload() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::host("systemd-devices").await?;
    let mut config = idle("main");
    config.devices = vec![v1::Device {
        container_path: "/dev/kmsg".into(),
        host_path: "/dev/kmsg".into(),
        permissions: "rw".into(),
    }];
    let main = scene.run(&config).await?;
    // The kernel's messages were asked for, and may be written without privilege; nothing but the rules is in the way of FUSE.
    let script = "echo x > /dev/null && head -c 4 /dev/urandom > /dev/null && echo cricket-test > /dev/kmsg && \
        rm -f /tmp/fuse && mknod /tmp/fuse c 10 229 && ! (: < /tmp/fuse) 2>&1";
    for round in ["before", "after"] {
        let denied = scene.sh(&main, script).await.context(round)?;
        assert!(denied.contains("Operation not permitted"), "{round}: {denied}");
        reload()?;
    }
    // One that may do everything still may.
    scene.end().await?;
    let scene = Scene::privileged("systemd-privileged").await?;
    let mut config = idle("main");
    crate::support::security(&mut config).privileged = true;
    let main = scene.run(&config).await?;
    reload()?;
    scene.sh(&main, "mknod /tmp/fuse c 10 229 && : < /tmp/fuse && : < /dev/kmsg").await?;
    scene.end().await
}

#[tokio::test]
async fn kills_for_want_of_memory_are_known_though_the_scope_is_gone() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let scene = Scene::host("systemd-oom").await?;
    // With others of the pod that have nothing to do with it.
    let quiet = scene.run(&limited("quiet")).await?;
    for round in 0..10 {
        let mut config = shell(&format!("eater-{round}"), "exec tail -c 100000000 /dev/zero");
        config.linux.get_or_insert_default().resources =
            Some(v1::LinuxContainerResources { memory_limit_in_bytes: 24 * MIB, ..Default::default() });
        let eater = scene.run(&config).await?;
        let status = scene.cri.wait_exit(&eater, SOON).await?;
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "round {round}");
    }
    scene.cri.stop(&quiet, 5).await?;
    assert_eq!(scene.cri.container(&quiet).await?.reason, "Completed");
    scene.end().await
}
