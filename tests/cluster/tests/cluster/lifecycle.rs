//! How pods and containers end, and how they are changed while they run.

use crate::space::Space;
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::cluster::condition;
use cricket_testkit::logs;
use serde_json::json;
use std::time::{Duration, Instant};

pub(crate) async fn termination_messages(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/termination-message.yaml")).await?;
    let pod = space.phase("messages", "Failed").await?;
    for (name, code, message) in [
        ("file", 1, "from the file"),
        ("elsewhere", 0, "elsewhere"),
        ("log", 2, "first line\nthe last line\n"),
        ("no-fallback", 0, ""),
    ] {
        let exit = pod.container(name)?.ended.as_ref().with_context(|| format!("{name} runs"))?;
        ensure!(exit.code == code && exit.message == message, "{name}: {exit:#?}");
    }
    Ok(())
}

pub(crate) async fn active_deadline(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/deadline.yaml")).await?;
    let reason = space.object("deadline", "its end", |pod| {
        (pod["status"]["phase"] == "Failed").then(|| pod["status"]["reason"].clone())
    });
    let reason = reason.await?;
    ensure!(reason == "DeadlineExceeded", "{reason}");
    space.event("deadline", "DeadlineExceeded", "longer than the specified deadline").await?;
    let ended = |pod: &cricket_kubelet_tests::Pod| pod.containers.get("main")?.ended.clone();
    let exit = space.pod("deadline", "the end of its container", ended).await?;
    ensure!(exit.code == 0, "{exit:#?}");
    Ok(())
}

/// The hook runs first, then the container is asked and has the rest of the time.
pub(crate) async fn grace_longer_than_the_hook(space: Space) -> Result<()> {
    let (log, took, exit) = grace(&space, "long-grace").await?;
    ensure!(log == ["hook ends", "asked to end"], "{log:?}");
    ensure!(exit == 9 && (Duration::from_secs(2)..Duration::from_secs(25)).contains(&took), "{exit} after {took:?}");
    Ok(())
}

/// The hook has used up the grace period, and the container is killed a moment later.
pub(crate) async fn grace_shorter_than_the_hook(space: Space) -> Result<()> {
    let (log, took, exit) = grace(&space, "short-grace").await?;
    ensure!(!log.iter().any(|line| line == "hook ends"), "{log:?}");
    ensure!(exit == 137 && (Duration::from_secs(2)..Duration::from_secs(40)).contains(&took), "{exit} after {took:?}");
    let text = space.event("short-grace", "FailedPreStopHook", "").await?;
    ensure!(text.contains("PreStopHook"), "{text}");
    Ok(())
}

/// Deletes a pod of the manifest: the lines of its log, how long it took, its exit code.
async fn grace(space: &Space, name: &str) -> Result<(Vec<String>, Duration, i64)> {
    let manifest = include_str!("../../manifests/grace.yaml");
    let mine = manifest.split("---").find(|part| part.contains(&format!("name: {name} }}"))).context("not there")?;
    space.apply(mine).await?;
    let pod = space.ready(name).await?;
    let node = space.node(name).await?;
    let directory = format!("{}_{name}_{}", space.kubectl.namespace, pod.uid);
    let path = node.kubelet.logs().join(directory).join("main/0.log");
    // The log goes with the pod; who has it open keeps it.
    let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
    let began = Instant::now();
    let end = space.pod(name, "its end", |pod| pod.containers.get("main")?.ended.clone());
    let delete = async { space.cluster.api().delete(&format!("{}/{name}", space.path("pods"))).await };
    let (exit, deleted) = tokio::join!(end, delete);
    deleted?;
    let (exit, took) = (exit?, began.elapsed());
    space.gone(name).await?;
    let records = logs::parse(std::io::read_to_string(file)?.as_bytes())?;
    Ok((logs::lines(&records, "stdout"), took, exit.code))
}

/// CPU and memory are changed in the running container.
pub(crate) async fn resize(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/resize.yaml")).await?;
    let before = space.ready("resize").await?;
    let resources =
        json!({ "requests": { "cpu": "70m", "memory": "24Mi" }, "limits": { "cpu": "200m", "memory": "48Mi" } });
    let patch = json!({ "spec": { "containers": [{ "name": "main", "resources": resources }] } }).to_string();
    space.kubectl.run(&["patch", "pod", "resize", "--subresource", "resize", "--patch", &patch]).await?;
    let actual = space.object("resize", "its new limits", |pod| {
        let limits = &pod["status"]["containerStatuses"][0]["resources"]["limits"];
        let settled =
            ["PodResizePending", "PodResizeInProgress"].iter().all(|kind| condition(pod, kind) != Some("True"));
        (limits["memory"] == "48Mi" && limits["cpu"] == "200m" && settled).then(|| pod.clone())
    });
    actual.await?;
    let after = space.ready("resize").await?;
    let (old, new) = (before.container("main")?, after.container("main")?);
    ensure!(old.id == new.id && new.restarts == 0, "{before:#?} became {after:#?}");
    let memory = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    let cpu = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max";
    let (memory, cpu) = (space.sh("resize", "main", memory).await?, space.sh("resize", "main", cpu).await?);
    ensure!(memory.trim() == (48 << 20).to_string() && cpu.split_whitespace().next() == Some("20000"), "{memory}{cpu}");
    space.delete("resize").await
}
