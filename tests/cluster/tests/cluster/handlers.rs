//! RuntimeClasses: each handler runs pods, and what a class says besides is done.

use crate::space::{LONG, Space, has};
use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_kubelet_tests::peer;
use cricket_testkit::leaks;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Probes, exec, logs and deletion with one handler.
pub(crate) async fn each(space: Space, handler: &str) -> Result<()> {
    let manifest = include_str!("../../manifests/handler.yaml");
    space.kubectl.apply(&manifest.replace("runtimeClassName: youki", &format!("runtimeClassName: {handler}"))).await?;
    // The exec probe waits for what the hook makes, the startup probe for the server.
    space.ready("web").await?;
    let sandbox = space.sandbox("web").await?;
    ensure!(sandbox.runtime_handler == handler, "{sandbox:#?}");

    let ran = space.exec("web", "web", &["sh", "-c", "echo out; echo err >&2; cat /www/index.html; exit 7"]).await?;
    ensure!(ran.stdout == "out\nhello\n" && ran.stderr.contains("err\n") && ran.code == 7, "{ran}");
    let ran = space.kubectl.feed(&["exec", "-i", "web", "--", "cat"], b"through standard input").await?;
    ensure!(ran.stdout == "through standard input" && ran.code == 0, "{ran}");

    // Follows the log to the end of the pod.
    let log = space.kubectl.spawn(&["logs", "-f", "web"])?;
    space.delete("web").await?;
    let log = tokio::time::timeout(LONG, log.wait_with_output()).await.context("the log does not end")??;
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    ensure!(log == "serving\nstopping\nasked to end\n", "{log}");
    let left = leaks::cgroups(&sandbox.metadata.map(|metadata| metadata.uid).unwrap_or_default())?;
    ensure!(left.is_empty(), "{left:#?}");
    Ok(())
}

pub(crate) async fn unknown(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/unknown-handler.yaml")).await?;
    let text = space.event("unknown", "FailedCreatePodSandBox", "no-such-handler").await?;
    if !peer() {
        has(&text, &cricket_kubelet_tests::handlers::names())?;
    }
    let pod = space.pod("unknown", "its state", |pod| Some(pod.clone())).await?;
    ensure!(pod.phase == "Pending" && !pod.ready, "{pod:#?}");
    Ok(())
}

pub(crate) async fn default(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/default-handler.yaml")).await?;
    space.ready("plain").await?;
    let sandbox = space.sandbox("plain").await?;
    ensure!(sandbox.runtime_handler.is_empty(), "{sandbox:#?}");
    space.delete("plain").await
}

/// The kubelet sizes the pod's cgroup, the runtime is told and leaves it alone.
pub(crate) async fn overhead(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/overhead.yaml")).await?;
    space.ready("heavy").await?;
    let sandbox = space.sandbox("heavy").await?;
    let (memory, own) = sized(&space, "heavy", &sandbox).await?;
    // The container's own is below, without the overhead.
    let children = leaks::names(memory.parent().context("no parent")?);
    let container = children.iter().map(|name| memory.with_file_name(name).join(own)).find(|path| path.exists());
    let container = container.context("no cgroup of a container")?;
    let limit = std::fs::read_to_string(&container)?;
    ensure!(limit.trim() == (16 << 20).to_string(), "{}: {limit}", container.display());

    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id, verbose: true };
    let answer = space.node("heavy").await?.cri().await?.runtime().pod_sandbox_status(request).await?.into_inner();
    let info: Value = serde_json::from_str(answer.info.get("info").context("no info")?)?;
    let told = &info["config"]["linux"]["overhead"];
    ensure!(told["memory_limit_in_bytes"] == 32 << 20 && told["cpu_quota"] == 25_000, "{info:#}");
    space.delete("heavy").await
}

/// Handlers that make a sandbox of the pod are told what its containers may use, and what the sandbox adds.
pub(crate) async fn overhead_of_sandboxes(space: Space) -> Result<()> {
    if peer() {
        return Ok(());
    }
    for class in ["heavy-runsc", "heavy-shim"] {
        space.apply(&include_str!("../../manifests/overhead.yaml").replace("heavy", class)).await?;
        space.ready(class).await?;
        let sandbox = space.sandbox(class).await?;
        sized(&space, class, &sandbox).await?;
        let bundle = space.node(class).await?.daemon.state().join("pods").join(&sandbox.id).join("sandbox");
        let spec: Value = serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
        let told = |key: &str| spec["annotations"][key].as_str().unwrap_or_default().to_owned();
        let cri = ["cpu-quota", "memory"].map(|key| told(&format!("io.kubernetes.cri.sandbox-{key}")));
        ensure!(cri == ["10000".to_owned(), (16 << 20).to_string()], "{class}: {spec:#}");
        let added: Value = serde_json::from_str(&told("io.kubernetes.cri-o.PodLinuxOverhead"))?;
        ensure!(added["memory_limit_in_bytes"] == 32 << 20 && added["cpu_quota"] == 25_000, "{class}: {added}");
        space.delete(class).await?;
    }
    Ok(())
}

/// The kubelet has sized the pod's cgroup with the overhead; the file of its memory limit, and its name.
async fn sized(space: &Space, pod: &str, sandbox: &v1::PodSandbox) -> Result<(PathBuf, &'static str)> {
    let object = space.cluster.api().get(&format!("{}/{pod}", space.path("pods"))).await?;
    ensure!(object["spec"]["overhead"]["memory"] == "32Mi", "{}", object["spec"]);
    let metadata = sandbox.metadata.as_ref().context("no metadata")?;
    let group = |file: &str| pod_group(&metadata.uid, file);
    let (memory, own) = match group("memory.limit_in_bytes") {
        Ok(dir) => (dir.join("memory.limit_in_bytes"), "memory.limit_in_bytes"),
        Err(_) => (group("memory.max")?.join("memory.max"), "memory.max"),
    };
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    ensure!(read(&memory)?.trim() == (48 << 20).to_string(), "{}: {}", memory.display(), read(&memory)?);
    let cpu = match group("cpu.cfs_quota_us") {
        Ok(dir) => read(&dir.join("cpu.cfs_quota_us"))?,
        Err(_) => read(&group("cpu.max")?.join("cpu.max"))?,
    };
    ensure!(cpu.split_whitespace().next() == Some("35000"), "{cpu}");
    Ok((memory, own))
}

/// The pod's cgroup in the hierarchy that has a file.
fn pod_group(uid: &str, file: &str) -> Result<PathBuf> {
    let name = format!("pod{uid}");
    let groups = leaks::cgroups(&name)?;
    let found = groups.iter().find(|dir| dir.ends_with(&name) && dir.join(file).exists());
    found.cloned().with_context(|| format!("no {file} in any of {groups:#?}"))
}

/// A class chooses nodes, and tolerates what they ask for.
pub(crate) async fn scheduling(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/scheduling.yaml")).await?;
    space.ready("dedicated").await?;
    let name = space.node("dedicated").await?.kubelet.node();
    ensure!(name == space.cluster.nodes()[1].kubelet.node(), "on {name}");
    space.event("refused", "FailedScheduling", "untolerated taint").await?;
    space.event("contradiction", "FailedScheduling", "didn't match Pod's node affinity/selector").await?;
    space.delete("dedicated").await
}
