//! Where the processes of a pod are: below its cgroup, with the limits that were asked for and no others.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, SOON};
use cricket_testkit::host;

use crate::support::{Scene, idle, node};

const MIB: i64 = 1 << 20;

/// The cgroups of a process: hierarchy and path.
fn cgroups(pid: u64) -> Result<Vec<(String, PathBuf)>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).with_context(|| format!("process {pid}"))?;
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?.to_owned(), PathBuf::from(fields.next()?)))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Every hierarchy has the process somewhere below the pod's cgroup.
fn assert_below(parent: &str, pid: u64, what: &str) -> Result<()> {
    let own = Path::new(parent).file_name().context("a parent")?;
    let all = cgroups(pid)?;
    assert!(!all.is_empty(), "{what}");
    for (hierarchy, path) in all {
        let ancestors: Vec<_> = path.iter().collect();
        let at = ancestors.iter().position(|part| *part == own);
        let below = at.is_some_and(|at| at + 1 < ancestors.len());
        assert!(below, "{what} ({pid}): {hierarchy}: {} is not below {parent}", path.display());
    }
    Ok(())
}

/// The process that has this in its arguments.
fn process_with(mark: &str) -> Result<u64> {
    host::wait_for(mark, SOON, || {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u64>() else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(mark) && line.starts_with(b"sh\0") {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    })
}

fn first_child(pid: u64) -> Result<u64> {
    host::wait_for("a child", SOON, || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(children.split_whitespace().next().map(str::parse).transpose()?)
    })
}

/// A user namespace, or a shared PID namespace with its reaper, is no way out of the pod's limits.
#[tokio::test]
async fn every_process_of_a_pod_is_below_its_cgroup() -> Result<()> {
    let ids = v1::IdMapping { host_id: 400_000, container_id: 0, length: 65_536 };
    let users = v1::UserNamespace { mode: v1::NamespaceMode::Pod.into(), uids: vec![ids], gids: vec![ids] };
    for (name, users) in [("placed-users", Some(users)), ("placed", None)] {
        let node = node().await?;
        let mut pod = node.daemon.pod(name);
        let options =
            v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), userns_options: users, ..Default::default() };
        let linux = pod.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().namespace_options = Some(options.clone());
        let parent = linux.cgroup_parent.clone();
        let scene = Scene::with(node, pod).await?;
        let mut config = idle("main", BUSYBOX);
        config.linux.get_or_insert_default().security_context.get_or_insert_default().namespace_options = Some(options);
        let id = scene.run(&config).await?;

        assert_below(&parent, scene.info(&id).await?["pid"].as_u64().context("a pid")?, "init")?;
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: scene.id.clone(), verbose: true };
        let answer = scene.cri.runtime().pod_sandbox_status(request).await?.into_inner();
        let info: serde_json::Value = serde_json::from_str(answer.info.get("info").context("no key `info`")?)?;
        assert_below(&parent, info["pid"].as_u64().context("a pid")?, "the reaper of the pod's PID namespace")?;

        let mark = format!("{name}-{}", host::unique());
        let script = format!("sleep 1000 & : {mark}; wait");
        let (cri, container) = (scene.cri.clone(), id.clone());
        let exec = tokio::spawn(async move { cri.exec(&container, &["sh", "-c", &script], 0).await });
        let pid = tokio::task::spawn_blocking(move || process_with(&mark)).await??;
        assert_below(&parent, pid, "an exec")?;
        // What it started, too, once it has.
        let child = tokio::task::spawn_blocking(move || first_child(pid)).await??;
        assert_below(&parent, child, "a child of an exec")?;
        scene.cri.stop(&id, 0).await?;
        tokio::time::timeout(Duration::from_secs(10), exec).await???;
        scene.end().await?;
    }
    Ok(())
}

/// What somebody who may only annotate a pod has no say in.
const ANNOTATIONS: [(&str, &str); 14] = [
    ("org.systemd.property.TimeoutStopUSec", "uint64 1"),
    ("org.systemd.property.Slice", "'system.slice'"),
    ("org.systemd.property.MemoryMax", "uint64 18446744073709551615"),
    ("io.kubernetes.cri-o.UnifiedCgroup.main", "bWVtb3J5Lm1heD1tYXg="),
    ("io.kubernetes.cri-o.UnifiedCgroup.POD", "bWVtb3J5Lm1heD1tYXg="),
    ("io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw", "true"),
    ("io.kubernetes.cri-o.Devices", "/dev/kmsg"),
    ("io.kubernetes.cri-o.ShmSize", "1Gi"),
    ("io.kubernetes.cri-o.Spoofed", "true"),
    ("cpu-quota.crio.io", "disable"),
    ("run.oci.systemd.subgroup", "elsewhere"),
    ("run.oci.handler", "wasm"),
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri.sandbox-id", "another"),
];

#[tokio::test]
async fn annotations_change_neither_limits_nor_specification() -> Result<()> {
    let node = node().await?;
    let annotations: std::collections::HashMap<_, _> =
        ANNOTATIONS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut pod = cricket_testkit::cri::host_network(node.daemon.pod("annotated"));
    pod.annotations.clone_from(&annotations);
    let parent = pod.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
    let scene = Scene::with(node, pod).await?;
    let mut config = idle("main", BUSYBOX);
    config.annotations.clone_from(&annotations);
    config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
        memory_limit_in_bytes: 64 * MIB,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..Default::default()
    });
    let id = scene.run(&config).await?;

    let info = scene.info(&id).await?;
    let made = info["runtimeSpec"]["annotations"].as_object().cloned().unwrap_or_default();
    for (key, value) in ANNOTATIONS {
        assert!(made.get(key).is_none_or(|made| made != value), "{key} is {value} in the specification");
    }
    assert_eq!(made["io.kubernetes.cri.container-type"], "container");
    assert_eq!(made["io.kubernetes.cri.sandbox-id"], scene.id);

    let pid = info["pid"].as_u64().context("a pid")?;
    assert_below(&parent, pid, "init")?;
    let v1 = Path::new("/sys/fs/cgroup/memory").is_dir();
    for (controller, file, want) in [
        ("memory", if v1 { "memory.limit_in_bytes" } else { "memory.max" }, (64 * MIB).to_string()),
        ("cpu", if v1 { "cpu.cfs_quota_us" } else { "cpu.max" }, "50000".to_owned()),
    ] {
        let all = cgroups(pid)?;
        let ours = |name: &str| if v1 { name.split(',').any(|c| c == controller) } else { name.is_empty() };
        let (_, path) = all.iter().find(|(name, _)| ours(name)).context(controller)?;
        let root = if v1 { Path::new("/sys/fs/cgroup").join(controller) } else { "/sys/fs/cgroup".into() };
        let file = root.join(path.strip_prefix("/")?).join(file);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        assert_eq!(text.split_whitespace().next(), Some(want.as_str()), "{}", file.display());
    }
    assert_eq!(scene.sh(&id, "ls /dev/kmsg 2>/dev/null; mount | grep -c ' type cgroup.*(rw' || true").await?, "0");
    // Whoever asks is still told of them: they are the pod's own.
    assert_eq!(scene.cri.container(&id).await?.annotations, annotations);
    scene.end().await
}
