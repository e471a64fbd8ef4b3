//! What handlers that make a sandbox of a pod are told of it, and what containerd's shims tell.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{Node, SOON, shim_table};
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::daemon::Options;
use cricket_testkit::host::{self, tool_dir};
use cricket_testkit::leaks;
use serde_json::Value;

use crate::support::shell;

/// Ends with 7 when it is asked to.
const OBEDIENT: &str = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done";

/// A node with a shim, and with gVisor's runsc by path.
async fn node() -> Result<Node> {
    let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runsc";
    let runsc = tool_dir("gvisor")?.join("runsc");
    let tables = format!(
        "{}[{table}]\nruntime_type = 'io.containerd.runc.v2'\n[{table}.options]\nBinaryName = {runsc:?}\n",
        shim_table("shim", &tool_dir("runc")?.join("runc"))?
    );
    Node::with(Options { tables, ..Options::default() }).await
}

/// The bundle of a pod's first container.
fn sandbox(node: &Node, pod: &str) -> PathBuf {
    node.daemon.state().join("pods").join(pod).join("sandbox")
}

async fn end(node: &Node, cri: &Cri, pod: &str) -> Result<()> {
    cri.stop_pod(pod).await?;
    cri.remove_pod(pod).await?;
    node.daemon.assert_no_leaks(SOON)
}

#[tokio::test]
async fn a_sandbox_is_told_what_its_pod_may_use() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let resources = |quota, memory| v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: quota,
        cpu_shares: 512,
        memory_limit_in_bytes: memory,
        ..Default::default()
    };
    for handler in ["shim", "runsc"] {
        let mut pod = cri::host_network(node.daemon.pod(&format!("told-{handler}")));
        let linux = pod.linux.get_or_insert_default();
        linux.resources = Some(resources(10_000, 64 << 20));
        linux.overhead = Some(resources(25_000, 32 << 20));
        let id = cri.run_pod_with(&pod, handler).await?;
        let spec: Value = serde_json::from_slice(&std::fs::read(sandbox(&node, &id).join("config.json"))?)?;
        let told = &spec["annotations"];
        for (key, want) in [
            ("container-type", "sandbox"),
            ("sandbox-id", id.as_str()),
            ("sandbox-cpu-period", "100000"),
            ("sandbox-cpu-quota", "10000"),
            ("sandbox-cpu-shares", "512"),
            ("sandbox-memory", "67108864"),
        ] {
            ensure!(told[&format!("io.kubernetes.cri.{key}")] == want, "{handler}: {key}: {told:#}");
        }
        for (key, quota, memory) in [("Resources", 10_000, 64 << 20), ("Overhead", 25_000, 32 << 20)] {
            let text = told[&format!("io.kubernetes.cri-o.PodLinux{key}")].as_str().context("no such annotation")?;
            let told: Value = serde_json::from_str(text)?;
            ensure!(told["cpu_quota"] == quota && told["memory_limit_in_bytes"] == memory, "{handler}: {key}: {text}");
        }
        end(&node, &cri, &id).await?;
    }
    Ok(())
}

/// A field of a message that is bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut size = bytes.len();
    let mut out = vec![number << 3 | 2];
    while size > 127 {
        out.push(size as u8 | 128);
        size >>= 7;
    }
    out.push(size as u8);
    out.extend_from_slice(bytes);
    out
}

/// Says, as shims do, that memory was short in a container; the answer's frame.
fn tell_of_oom(socket: &mut UnixStream, container: &str) -> Result<Vec<u8>> {
    let event = [field(1, b"containerd.events.TaskOOM"), field(2, &field(1, container.as_bytes()))].concat();
    let envelope = [field(2, b"k8s.io"), field(3, b"/tasks/oom"), field(4, &event)].concat();
    let service = field(1, b"containerd.services.events.ttrpc.v1.Events");
    let call = [service, field(2, b"Forward"), field(3, &field(1, &envelope))].concat();
    let head = [&u32::try_from(call.len())?.to_be_bytes()[..], &1u32.to_be_bytes(), &[1, 1]].concat();
    socket.write_all(&[head, call].concat())?;
    let mut head = [0; 10];
    socket.read_exact(&mut head)?;
    let mut answer = vec![0; u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize];
    socket.read_exact(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn a_shim_tells_that_memory_was_short() -> Result<()> {
    let mut node = node().await?;
    let mut cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod("shim-oom"));
    let id = cri.run_pod_with(&pod, "shim").await?;
    let marks = sandbox(&node, &id).join("oom");

    // The shim itself, of a container whose control group says so, too.
    let mut config = shell("eater", "exec tail /dev/zero");
    config.linux.get_or_insert_default().resources =
        Some(v1::LinuxContainerResources { memory_limit_in_bytes: 32 << 20, ..Default::default() });
    let eater = cri.run(&id, &config, &pod).await?;
    ensure!(cri.wait_exit(&eater, SOON).await?.reason == "OOMKilled");
    host::wait_for("the shim's own word", SOON, || Ok(marks.join(&eater).exists().then_some(())))?;

    // Of one whose control group knows nothing; the daemon need not run when it is said.
    let (told, other) = (shell("told", OBEDIENT), shell("other", OBEDIENT));
    let (told, other) = (cri.run(&id, &told, &pod).await?, cri.run(&id, &other, &pod).await?);
    node.daemon.kill_and_launch()?;
    cri = node.daemon.cri().await?;
    let mut socket = UnixStream::connect(sandbox(&node, &id).join("told"))?;
    for name in [told.as_str(), "../../escape", &"f".repeat(64)] {
        ensure!(tell_of_oom(&mut socket, name)?.is_empty(), "it is refused");
    }
    host::wait_for("the mark", SOON, || Ok(marks.join(&told).exists().then_some(())))?;
    for (container, reason) in [(&told, "OOMKilled"), (&other, "Error")] {
        cri.stop(container, 20).await?;
        let ended = cri.container(container).await?;
        ensure!((ended.exit_code, ended.reason.as_str()) == (7, reason), "{ended:?}");
        cri.remove(container).await?;
        ensure!(!marks.join(container).exists(), "the mark stays");
    }
    end(&node, &cri, &id).await
}

#[tokio::test]
async fn a_shim_is_told_of_new_limits() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (telling, runc) = (dir.path().join("runc"), tool_dir("runc")?.join("runc"));
    let (told, said) = (dir.path().join("told"), dir.path().join("refused"));
    // What runc gets to read; none where it is to refuse.
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" = update ] && {{ [ ! -e {said} ] || {{ echo refused by order >&2; exit 1; }}\n\
         cat > {told}.new && mv {told}.new {told}; exec {runc} \"$@\" < {told}; }}; done\nexec {runc} \"$@\"\n",
        said = said.display(),
        told = told.display(),
        runc = runc.display(),
    );
    std::fs::write(&telling, text)?;
    host::run("chmod", ["755", &telling.display().to_string()])?;
    let node = Node::with(Options { tables: shim_table("shim", &telling)?, ..Options::default() }).await?;
    let cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod("shim-limits"));
    let id = cri.run_pod_with(&pod, "shim").await?;
    let mut config = shell("main", OBEDIENT);
    config.linux.get_or_insert_default().resources =
        Some(v1::LinuxContainerResources { memory_limit_in_bytes: 64 << 20, cpu_shares: 512, ..Default::default() });
    let main = cri.run(&id, &config, &pod).await?;
    let update = async |bytes| {
        let linux = Some(v1::LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() });
        let request = v1::UpdateContainerResourcesRequest { container_id: main.clone(), linux, ..Default::default() };
        cri.runtime().update_container_resources(request).await
    };
    update(96 << 20).await?;
    // All of them, not what has changed alone.
    let limits: Value = serde_json::from_slice(&std::fs::read(&told)?)?;
    ensure!(limits["memory"]["limit"] == 96 << 20 && limits["cpu"]["shares"] == 512, "{limits:#}");
    std::fs::write(&said, "")?;
    let refused = update(80 << 20).await.err().context("it was to be refused")?;
    ensure!(refused.message().contains("refused by order"), "{refused}");
    let resources = cri.container(&main).await?.resources.and_then(|r| r.linux).context("no resources")?;
    ensure!(resources.memory_limit_in_bytes == 96 << 20, "{resources:?}");
    end(&node, &cri, &id).await
}

/// As in a virtual machine: what runs is in no control group that this host's cricket has made.
#[tokio::test]
async fn a_shim_is_asked_for_figures_of_what_is_elsewhere() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (moving, runc) = (dir.path().join("runc"), tool_dir("runc")?.join("runc"));
    let elsewhere = format!("elsewhere-{}", std::process::id());
    // The last part of the path is the container's own.
    let text = format!(
        "#!/bin/sh\nlast=\nfor word; do [ \"$last\" != --bundle ] || \
         sed -i 's|\\(\"cgroupsPath\": *\"\\)[^\"]*/|\\1/{elsewhere}/|' \"$word/config.json\"; last=$word; done\n\
         exec {} \"$@\"\n",
        runc.display(),
    );
    std::fs::write(&moving, text)?;
    host::run("chmod", ["755", &moving.display().to_string()])?;
    let node = Node::with(Options { tables: shim_table("shim", &moving)?, ..Options::default() }).await?;
    let cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod("shim-figures"));
    let id = cri.run_pod_with(&pod, "shim").await?;
    let mut config = shell("main", OBEDIENT);
    config.linux.get_or_insert_default().resources =
        Some(v1::LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() });
    let main = cri.run(&id, &config, &pod).await?;
    let moved = leaks::cgroups(&elsewhere)?;
    let own = moved.iter().find(|path| path.ends_with(&main) && path.join("cgroup.procs").exists());
    ensure!(own.is_some_and(|path| path.join("cgroup.procs").exists()), "it was not moved: {moved:#?}");
    let request = v1::ContainerStatsRequest { container_id: main.clone() };
    let stats = cri.runtime().container_stats(request).await?.into_inner().stats.context("no statistics")?;
    let memory = stats.memory.context("no memory")?;
    let value = |value: Option<v1::UInt64Value>| value.map_or(0, |value| value.value);
    let (used, available) = (value(memory.working_set_bytes), value(memory.available_bytes));
    ensure!(used > 0 && used + available == 64 << 20, "{memory:?}");
    ensure!(value(stats.cpu.context("no processors")?.usage_core_nano_seconds) > 0);
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    for path in leaks::cgroups(&elsewhere)?.into_iter().rev() {
        std::fs::remove_dir(&path).with_context(|| path.display().to_string())?;
    }
    node.daemon.assert_no_leaks(SOON)
}

#[tokio::test]
async fn a_shims_log_is_kept_and_does_not_grow() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let pod = cri::host_network(node.daemon.pod("shim-log"));
    let id = cri.run_pod_with(&pod, "shim").await?;
    let bundle = sandbox(&node, &id);
    // More than a pipe holds: somebody reads.
    let mut log = File::options().write(true).open(bundle.join("log"))?;
    for _ in 0..64 {
        log.write_all(&[b'x'; 64 << 10])?;
    }
    log.write_all(b"the end\n")?;
    host::wait_for("the end of the log", SOON, || {
        // A moment long there is none, when it begins anew.
        let kept = std::fs::read(bundle.join("shim.log")).unwrap_or_default();
        Ok(kept.ends_with(b"the end\n").then_some(()))
    })?;
    let kept =
        ["shim.log", "shim.log.old"].map(|name| std::fs::metadata(bundle.join(name)).map_or(0, |meta| meta.len()));
    ensure!(kept.iter().all(|size| (1..=256 << 10).contains(size)), "{kept:?}");
    end(&node, &cri, &id).await
}
