//! One suite over all runtime handlers: every case with each of them. What a handler truly cannot do is a skip, with its
//! reason; a skipped case is not run.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node, sh, shim_table};
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::daemon::Options;
use cricket_testkit::host::{self, tool_dir};
use cricket_testkit::leaks;
use cricket_testkit::logs::lines;
use tonic::Code;

use crate::support::{SOON, shell};

/// A handler, and what it cannot do.
struct Kind {
    name: &'static str,
    runs: Runs,
    skips: &'static [(&'static str, &'static str)],
}

enum Runs {
    BuiltIn,
    /// The binary of the handler's name, of this tool.
    Path(&'static str),
    /// containerd's shim for runc.
    Shim,
    /// gVisor's shim.
    GvisorShim,
}

const ONE_PROCESS: &str = "all containers of a pod are one process of the host: the pod's limit is the one that counts";
const NO_SHIM: (&str, &str) = ("shim killed", "it has none");
const YOUKI: Kind = Kind { name: "youki", runs: Runs::BuiltIn, skips: &[NO_SHIM] };
const RUNC: Kind = Kind { name: "runc", runs: Runs::Path("runc"), skips: &[NO_SHIM] };
const RUNSC: Kind = Kind {
    name: "runsc",
    runs: Runs::Path("gvisor"),
    skips: &[
        NO_SHIM,
        ("memory", ONE_PROCESS),
        ("update", "as for memory"),
        ("statistics", "as for memory: the pod's are the ones that count"),
        ("missing command", "its exec says 128, whatever was wrong"),
    ],
};

const SHIM: Kind = Kind { name: "shim", runs: Runs::Shim, skips: &[] };
const GVISOR_SHIM: Kind = Kind { name: "runsc-shim", runs: Runs::GvisorShim, skips: &[("memory", ONE_PROCESS)] };

impl Kind {
    /// Its table of the configuration; files that this names are in the directory.
    fn table(&self, dir: &Path) -> Result<String> {
        let table = format!("plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{}", self.name);
        Ok(match self.runs {
            Runs::BuiltIn => String::new(),
            Runs::Path(tool) => {
                let binary = tool_dir(tool)?.join(self.name);
                format!(
                    "[{table}]\nruntime_type = 'io.containerd.runc.v2'\n[{table}.options]\nBinaryName = {binary:?}\n"
                )
            }
            Runs::Shim => shim_table(self.name, &tool_dir("runc")?.join("runc"))?,
            Runs::GvisorShim => {
                let (tools, own) = (tool_dir("gvisor")?, dir.join("runsc.toml"));
                let (shim, runsc) = (tools.join("containerd-shim-runsc-v1"), tools.join("runsc"));
                std::fs::write(&own, format!("binary_name = {runsc:?}\nroot = {:?}\n", dir.join("root")))?;
                format!(
                    "[{table}]\nruntime_type = 'io.containerd.runsc.v1'\nruntime_path = {shim:?}\n[{table}.options]\n\
                     TypeUrl = 'io.containerd.runsc.v1.options'\nConfigPath = {own:?}\n"
                )
            }
        })
    }
}

/// A pod of the handler.
struct Place<'a> {
    node: &'a mut Node,
    cri: Cri,
    pod: v1::PodSandboxConfig,
    id: String,
}

impl Place<'_> {
    async fn run(&self, config: &v1::ContainerConfig) -> Result<String> {
        Ok(self.cri.run(&self.id, config, &self.pod).await?)
    }

    async fn says(&self, config: &v1::ContainerConfig, stream: &str, want: &[&str]) -> Result<()> {
        host::wait_for("the log", SOON, || {
            let said = self.node.daemon.logs(&self.pod, config).map(|log| lines(&log, stream)).unwrap_or_default();
            Ok((said == want).then_some(()))
        })
        .with_context(|| format!("{stream}: {:?}", self.node.daemon.logs(&self.pod, config)))
    }
}

/// The host reaches what listens on the pod's address.
async fn network(at: &mut Place<'_>) -> Result<()> {
    let config = shell("main", "echo up; while :; do echo served | nc -l -p 8080; done");
    at.run(&config).await?;
    at.says(&config, "stdout", &["up"]).await?;
    let ip = at.cri.pod(&at.id).await?.network.context("no network")?.ip;
    let text = host::wait_for("an answer", SOON, || {
        let mut text = String::new();
        let Ok(mut stream) = TcpStream::connect((ip.as_str(), 8080)) else { return Ok(None) };
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(stream.read_to_string(&mut text).ok().map(|_| text))
    })?;
    ensure!(text == "served\n", "{text:?}");
    Ok(())
}

/// Ends with 7 when it is asked to.
const OBEDIENT: &str = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done";

async fn life(at: &mut Place<'_>) -> Result<()> {
    let config = shell("main", "echo out; echo err >&2; hostname; exit 5");
    let id = at.cri.create(&at.id, &config, &at.pod).await?;
    ensure!(at.cri.container(&id).await?.state() == v1::ContainerState::ContainerCreated);
    at.cri.start(&id).await?;
    let ended = at.cri.wait_exit(&id, SOON).await?;
    ensure!((ended.exit_code, ended.reason.as_str()) == (5, "Error"), "{ended:?}");
    at.says(&config, "stdout", &["out", &at.pod.hostname]).await?;
    at.says(&config, "stderr", &["err"]).await?;
    at.cri.remove(&id).await?;
    ensure!(at.cri.containers().await?.iter().all(|c| c.id != id));
    Ok(())
}

async fn terminal(at: &mut Place<'_>) -> Result<()> {
    let mut config = shell("main", "test -t 0 && test -t 1 && echo terminal; exit 3");
    config.tty = true;
    let id = at.run(&config).await?;
    ensure!(at.cri.wait_exit(&id, SOON).await?.exit_code == 3);
    at.says(&config, "stdout", &["terminal\r"]).await
}

async fn exec(at: &mut Place<'_>) -> Result<()> {
    let id = at.run(&shell("main", OBEDIENT)).await?;
    ensure!(sh(&at.cri, &id, "echo inside; pwd").await? == "inside\n/");
    let answer = at.cri.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 9"], 10).await?;
    ensure!((answer.exit_code, &*answer.stdout, &*answer.stderr) == (9, &b"out\n"[..], &b"err\n"[..]), "{answer:?}");
    let late = at.cri.exec(&id, &["sleep", "1000"], 1).await.err().context("it did not time out")?;
    ensure!(late.code() == Code::DeadlineExceeded, "{late}");
    ensure!(sh(&at.cri, &id, "echo again").await? == "again");
    Ok(())
}

async fn missing_command(at: &mut Place<'_>) -> Result<()> {
    let id = at.run(&shell("main", OBEDIENT)).await?;
    ensure!(at.cri.exec(&id, &["/no/such"], 10).await?.exit_code == 127);
    Ok(())
}

async fn failed_start(at: &mut Place<'_>) -> Result<()> {
    let missing = cri::container("missing", BUSYBOX, &["/no/such/command"]);
    let id = at.cri.create(&at.id, &missing, &at.pod).await?;
    let error = at.cri.start(&id).await.err().context("there is no such command")?;
    ensure!(error.message().contains("/no/such/command"), "{error}");
    let status = at.cri.container(&id).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (128, "StartError"), "{status:?}");
    Ok(())
}

async fn stop(at: &mut Place<'_>) -> Result<()> {
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    for (name, script, grace, code) in [("obedient", OBEDIENT, 20, 7), ("stubborn", stubborn, 1, 137)] {
        let config = shell(name, script);
        let id = at.run(&config).await?;
        at.says(&config, "stdout", &["up"]).await?;
        at.cri.stop(&id, grace).await?;
        let ended = at.cri.container(&id).await?;
        ensure!(ended.exit_code == code, "{name}: {ended:?}");
    }
    Ok(())
}

fn limited(name: &str, script: &str, bytes: i64) -> v1::ContainerConfig {
    let mut config = shell(name, script);
    config.linux.get_or_insert_default().resources =
        Some(v1::LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() });
    config
}

async fn memory(at: &mut Place<'_>) -> Result<()> {
    // A line without an end.
    // And room for what runtimes do in the container's control group themselves.
    let id = at.run(&limited("eater", "exec tail /dev/zero", 32 << 20)).await?;
    let ended = at.cri.wait_exit(&id, SOON).await?;
    ensure!((ended.exit_code, ended.reason.as_str()) == (137, "OOMKilled"), "{ended:?}");
    Ok(())
}

async fn update(at: &mut Place<'_>) -> Result<()> {
    let id = at.run(&limited("main", OBEDIENT, 64 << 20)).await?;
    let linux = Some(v1::LinuxContainerResources { memory_limit_in_bytes: 96 << 20, ..Default::default() });
    let request = v1::UpdateContainerResourcesRequest { container_id: id.clone(), linux, ..Default::default() };
    at.cri.runtime().update_container_resources(request).await?;
    let resources = at.cri.container(&id).await?.resources.and_then(|r| r.linux).context("no resources")?;
    ensure!(resources.memory_limit_in_bytes == 96 << 20, "{resources:?}");
    Ok(())
}

async fn statistics(at: &mut Place<'_>) -> Result<()> {
    let id = at.run(&shell("main", OBEDIENT)).await?;
    let request = v1::ContainerStatsRequest { container_id: id };
    let stats = at.cri.runtime().container_stats(request).await?.into_inner().stats.context("no statistics")?;
    let memory = stats.memory.and_then(|m| m.usage_bytes).map_or(0, |value| value.value);
    ensure!(memory > 0 && stats.cpu.is_some(), "memory {memory}");
    Ok(())
}

async fn daemon_killed(at: &mut Place<'_>) -> Result<()> {
    let config = shell("main", OBEDIENT);
    let id = at.run(&config).await?;
    at.says(&config, "stdout", &["up"]).await?;
    at.node.daemon.kill_and_launch()?;
    at.cri = at.node.daemon.cri().await?;
    ensure!(at.cri.container(&id).await?.state() == v1::ContainerState::ContainerRunning);
    ensure!(at.cri.pod(&at.id).await?.state() == v1::PodSandboxState::SandboxReady);
    ensure!(sh(&at.cri, &id, "echo still").await? == "still");
    at.cri.stop(&id, 20).await?;
    let ended = at.cri.container(&id).await?;
    ensure!(ended.exit_code == 7, "{ended:?}");
    Ok(())
}

/// Its containers end with it, and nothing of them is left.
async fn shim_killed(at: &mut Place<'_>) -> Result<()> {
    let config = shell("main", "trap '' TERM; echo up; while :; do sleep 0.1; done");
    let id = at.run(&config).await?;
    at.says(&config, "stdout", &["up"]).await?;
    let servers = leaks::processes(at.node.daemon.mark())?;
    let servers: Vec<_> = servers.into_iter().filter(|p| p.command.contains("containerd-shim-")).collect();
    ensure!(servers.len() == 1, "{servers:?}");
    host::run("kill", ["-KILL", &servers[0].pid.to_string()])?;
    let ended = at.cri.wait_exit(&id, SOON).await?;
    ensure!(ended.exit_code == 137, "{ended:?}");
    Ok(at.cri.remove(&id).await?)
}

async fn monitor_killed(at: &mut Place<'_>) -> Result<()> {
    let config = shell("main", OBEDIENT);
    let id = at.run(&config).await?;
    at.says(&config, "stdout", &["up"]).await?;
    let mark = format!("cricket-monitor {}", at.id);
    let monitor = || -> Result<Option<i32>> {
        Ok(leaks::processes(at.node.daemon.mark())?.into_iter().find(|p| p.command == mark).map(|p| p.pid))
    };
    let old = monitor()?.context("no monitor")?;
    host::run("kill", ["-KILL", &old.to_string()])?;
    host::wait_for("another monitor", SOON, || Ok(monitor()?.filter(|new| *new != old)))?;
    ensure!(sh(&at.cri, &id, "echo still").await? == "still");
    at.cri.stop(&id, 20).await?;
    let ended = at.cri.container(&id).await?;
    ensure!([7, 255].contains(&ended.exit_code), "{ended:?}");
    Ok(())
}

async fn whole_pod(at: &mut Place<'_>) -> Result<()> {
    at.run(&shell("one", OBEDIENT)).await?;
    at.run(&shell("two", "sleep 1000")).await?;
    at.cri.stop_pod(&at.id).await?;
    for container in at.cri.containers().await?.iter().filter(|c| c.pod_sandbox_id == at.id) {
        ensure!(container.state() == v1::ContainerState::ContainerExited, "{container:?}");
    }
    Ok(())
}

/// Runs every case in a pod of its own.
macro_rules! cases {
    ($bench:expr, $($name:literal => $case:ident),+ $(,)?) => {
        $(
            if let Some(mut place) = $bench.begin($name).await? {
                let done = $case(&mut place).await;
                let Place { cri, id, .. } = place;
                $bench.end($name, done, &cri, &id).await?;
            }
        )+
    };
}

struct Bench {
    node: Node,
    kind: Kind,
    failed: Vec<String>,
    /// Dropped after the node.
    _files: tempfile::TempDir,
}

impl Bench {
    async fn new(kind: Kind) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let tables = kind.table(files.path())?;
        let node = Node::with(Options { tables, ..Options::default() }).await?;
        Ok(Self { node, kind, failed: Vec::new(), _files: files })
    }

    async fn begin(&mut self, case: &str) -> Result<Option<Place<'_>>> {
        if let Some((_, reason)) = self.kind.skips.iter().find(|(name, _)| *name == case) {
            println!("{}: {case}: skipped: {reason}", self.kind.name);
            return Ok(None);
        }
        let cri = self.node.daemon.cri().await?;
        let mut pod = self.node.daemon.pod(&case.replace(' ', "-"));
        pod.hostname = case.replace(' ', "-");
        let id = cri.run_pod_with(&pod, self.kind.name).await.with_context(|| format!("{case}: no pod"))?;
        Ok(Some(Place { node: &mut self.node, cri, pod, id }))
    }

    async fn end(&mut self, case: &str, done: Result<()>, cri: &Cri, pod: &str) -> Result<()> {
        cri.stop_pod(pod).await.with_context(|| format!("{case}: stop the pod"))?;
        cri.remove_pod(pod).await.with_context(|| format!("{case}: remove the pod"))?;
        let left = self.node.daemon.assert_no_leaks(Duration::from_secs(10));
        for error in [done.err(), left.err()].into_iter().flatten() {
            self.failed.push(format!("{case}: {error:#}"));
        }
        Ok(())
    }
}

async fn suite(kind: Kind) -> Result<()> {
    let mut bench = Bench::new(kind).await?;
    cases! {
        bench,
        "life" => life,
        "terminal" => terminal,
        "exec" => exec,
        "missing command" => missing_command,
        "failed start" => failed_start,
        "stop" => stop,
        "network" => network,
        "memory" => memory,
        "update" => update,
        "statistics" => statistics,
        "daemon killed" => daemon_killed,
        "monitor killed" => monitor_killed,
        "shim killed" => shim_killed,
        "whole pod" => whole_pod,
    }
    match bench.failed.as_slice() {
        [] => Ok(()),
        failed => bail!("{} failed:\n{}\n{}", bench.kind.name, failed.join("\n"), bench.node.daemon.log()),
    }
}

#[tokio::test]
async fn every_handler_youki() -> Result<()> {
    suite(YOUKI).await
}

#[tokio::test]
async fn every_handler_runc() -> Result<()> {
    suite(RUNC).await
}

#[tokio::test]
async fn every_handler_runsc() -> Result<()> {
    suite(RUNSC).await
}

#[tokio::test]
async fn every_handler_shim() -> Result<()> {
    suite(SHIM).await
}

#[tokio::test]
async fn every_handler_runsc_shim() -> Result<()> {
    // Its `start` fails where it cannot keep itself from being killed for want of memory.
    if host::run("sh", ["-c", "echo -999 > /proc/self/oom_score_adj"]).is_err() {
        host::skip("gVisor's shim wants the OOM score -999, which nobody may set here");
        return Ok(());
    }
    suite(GVISOR_SHIM).await
}
