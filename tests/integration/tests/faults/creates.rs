//! Creates that repeat one another, callers that go away, and calls that race them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Answer, Cri, container};
use cricket_testkit::logs::lines;
use cricket_testkit::{host, leaks};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{SOON, back_to, container_ids, pod_ids, refused, remove};

/// A CNI plugin, the first of the network's, whose ADD waits as long as a file is there.
pub(crate) struct Gate(PathBuf);

impl Gate {
    /// Puts it in front of the network's plugins, open.
    pub(crate) async fn install(node: &Node) -> Result<Self> {
        let dir = node.daemon.plugins();
        let gate = Self(dir.join("closed"));
        let script = format!(
            "#!/bin/sh\ncat > /dev/null\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\n\
             echo begun >> {dir}/begun\nwhile [ -e {gate} ]; do sleep 0.02; done\necho '{{\"cniVersion\":\"1.0.0\"}}'\n",
            dir = dir.display(),
            gate = gate.0.display()
        );
        let program = dir.join("gate");
        std::fs::write(&program, script)?;
        host::run("chmod", ["755", &program.display().to_string()])?;
        let path = node.daemon.network().conf_path();
        let list: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let mut plugins = list["plugins"].as_array().context("no plugins")?.clone();
        plugins.insert(0, serde_json::json!({ "type": "gate" }));
        node.daemon.network().write(&plugins)?;
        // The daemon watches the directory, and says what it has found there.
        let cri = node.daemon.cri().await?;
        let began = Instant::now();
        loop {
            let status = cri.runtime().status(v1::StatusRequest { verbose: true }).await?.into_inner();
            if status.info.get("cniconfig").is_some_and(|known| known.contains("\"gate\"")) {
                return Ok(gate);
            }
            ensure!(began.elapsed() < SOON, "the daemon does not know the network: {:?}", status.info.get("cniconfig"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn close(&self) -> Result<()> {
        Ok(std::fs::write(&self.0, "")?)
    }

    pub(crate) fn open(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.0)?)
    }

    /// A create whose caller goes away while it waits in the gate, and of whose going the daemon knows.
    async fn abandon(&self, cri: &Cri, sandbox: &v1::PodSandboxConfig) -> Result<()> {
        let before = self.begun();
        let call = {
            let (cri, sandbox) = (cri.clone(), sandbox.clone());
            tokio::spawn(async move { cri.run_pod(&sandbox).await })
        };
        self.reached(before)?;
        call.abort();
        ensure!(call.await.is_err_and(|e| e.is_cancelled()), "the gate was open");
        come(cri).await
    }

    /// How many ADDs have come.
    pub(crate) fn begun(&self) -> usize {
        std::fs::read_to_string(self.0.with_file_name("begun")).unwrap_or_default().lines().count()
    }

    /// Waits for the ADD after so many.
    pub(crate) fn reached(&self, before: usize) -> Result<()> {
        host::wait_for("the plugin to be called", SOON, || Ok((self.begun() > before).then_some(())))
    }
}

/// Returns when the daemon has what was sent before over the same connection, which keeps the order.
async fn come(cri: &Cri) -> Result<()> {
    // What another thread is just about to send comes a moment later.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..2 {
        cri.pods().await?;
    }
    Ok(())
}

/// The one ID that all answers agree on: who joined got it, who came too late was told that it exists.
fn one_id(answers: Vec<Answer<String>>) -> Result<(String, usize)> {
    let ids: BTreeSet<&String> = answers.iter().flatten().collect();
    let [id] = ids.into_iter().collect::<Vec<_>>()[..] else { bail!("not one ID: {answers:?}") };
    for late in answers.iter().filter_map(|a| a.as_ref().err()) {
        ensure!(late.code() == Code::AlreadyExists && late.message().contains(id.as_str()), "{late:?}");
    }
    Ok((id.clone(), answers.iter().flatten().count()))
}

fn described(mut pod: v1::PodSandboxConfig) -> v1::PodSandboxConfig {
    pod.labels = (0..20).map(|n| (format!("label-{n}"), n.to_string())).collect();
    pod.annotations = (0..20).map(|n| (format!("note-{n}"), n.to_string())).collect();
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_make_one() -> Result<()> {
    let node = Node::start().await?;
    let gate = Gate::install(&node).await?;
    let cri = node.daemon.cri().await?;
    let sandbox = described(node.daemon.pod("one"));
    gate.close()?;
    let mut tasks = JoinSet::new();
    let asking = Arc::new(AtomicUsize::new(0));
    for _ in 0..50 {
        let (cri, sandbox, asking) = (cri.clone(), sandbox.clone(), asking.clone());
        tasks.spawn(async move {
            asking.fetch_add(1, Ordering::Relaxed);
            cri.run_pod(&sandbox).await
        });
    }
    gate.reached(0)?;
    host::wait_for("all to ask", SOON, || Ok((asking.load(Ordering::Relaxed) == 50).then_some(())))?;
    come(&cri).await?;
    gate.open()?;
    let (pod, joined) = one_id(tasks.join_all().await)?;
    ensure!(joined == 50, "{joined} of 50 joined");
    ensure!(gate.begun() == 1 && pod_ids(&cri).await?.len() == 1);

    let mut config = container("one", BUSYBOX, &["sleep", "600"]);
    config.labels = sandbox.labels.clone();
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let (cri, sandbox, config, pod) = (cri.clone(), sandbox.clone(), config.clone(), pod.clone());
        tasks.spawn(async move { cri.create(&pod, &config, &sandbox).await });
    }
    let (id, _) = one_id(tasks.join_all().await)?;
    ensure!(container_ids(&cri).await?.into_iter().collect::<Vec<_>>() == [id.clone()]);
    cri.start(&id).await?;
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &Default::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_went_away_may_ask_again() -> Result<()> {
    let node = Node::start().await?;
    let gate = Gate::install(&node).await?;
    let cri = node.daemon.cri().await?;
    let sandbox = described(node.daemon.pod("again"));
    let mut other = sandbox.clone();
    other.hostname = "other".to_owned();

    // While it is in flight: the equal one joins, the different one is refused, nothing is listed.
    gate.close()?;
    gate.abandon(&cri, &sandbox).await?;
    ensure!(gate.begun() == 1 && pod_ids(&cri).await?.is_empty());
    refused(cri.run_pod(&other).await, Code::Unavailable, "again")?;
    let joining = {
        let (cri, sandbox) = (cri.clone(), sandbox.clone());
        tokio::spawn(async move { cri.run_pod(&sandbox).await })
    };
    come(&cri).await?;
    gate.open()?;
    let id = joining.await??;
    ensure!(gate.begun() == 1, "the network was set up {} times", gate.begun());
    refused(cri.run_pod(&sandbox).await, Code::AlreadyExists, &id)?;
    refused(cri.run_pod(&other).await, Code::AlreadyExists, &id)?;
    remove(&cri, &id).await?;

    // It finished after its caller had gone: the retry gets it.
    gate.close()?;
    gate.abandon(&cri, &sandbox).await?;
    gate.open()?;
    let id = appears(&cri, None).await?;
    ensure!(cri.run_pod(&sandbox).await? == id);
    refused(cri.run_pod(&sandbox).await, Code::AlreadyExists, &id)?;
    remove(&cri, &id).await?;

    // A different one takes the place of what nobody was told of.
    gate.close()?;
    gate.abandon(&cri, &sandbox).await?;
    gate.open()?;
    let id = appears(&cri, None).await?;
    let new = cri.run_pod(&other).await?;
    ensure!(new != id && pod_ids(&cri).await? == BTreeSet::from([new.clone()]));
    remove(&cri, &new).await?;
    back_to(&node.daemon, &Default::default())
}

/// Waits for a pod in the list that is not the known one.
async fn appears(cri: &Cri, known: Option<&str>) -> Result<String> {
    for _ in 0..1000 {
        if let Some(id) = pod_ids(cri).await?.into_iter().find(|id| Some(id.as_str()) != known) {
            return Ok(id);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("no pod is listed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_and_remove_succeed_against_creates() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    for delay in [0, 10, 40, 100] {
        let sandbox = node.daemon.pod("raced");
        let pod = cri.run_pod(&sandbox).await?;
        let mut tasks = JoinSet::new();
        for n in 0..8 {
            let (cri, sandbox, pod) = (cri.clone(), sandbox.clone(), pod.clone());
            let config = container(&format!("c-{n}"), BUSYBOX, &["sleep", "600"]);
            tasks.spawn(async move { cri.run(&pod, &config, &sandbox).await });
        }
        tokio::time::sleep(Duration::from_millis(delay)).await;
        cri.stop_pod(&pod).await?;
        cri.remove_pod(&pod).await?;
        for answer in tasks.join_all().await {
            let gone = |s: &tonic::Status| matches!(s.code(), Code::NotFound | Code::FailedPrecondition);
            ensure!(answer.as_ref().err().is_none_or(gone), "{answer:?}");
        }
        ensure!(cri.containers().await?.is_empty() && cri.pods().await?.is_empty());
        back_to(&node.daemon, &Default::default())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_at_once_send_one_signal_and_the_earliest_deadline_wins() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("stopped");
    let pod = cri.run_pod(&sandbox).await?;
    let script = "trap 'echo asked' TERM; echo up; while :; do sleep 0.02; done";
    let config = container("main", BUSYBOX, &["sh", "-c", script]);
    let main = cri.run(&pod, &config, &sandbox).await?;
    let log = || Ok::<_, anyhow::Error>(lines(&node.daemon.logs(&sandbox, &config)?, "stdout"));
    host::wait_for("the container to be up", SOON, || Ok((log()? == ["up"]).then_some(())))?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let (cri, main) = (cri.clone(), main.clone());
        tasks.spawn(async move { cri.stop(&main, if n == 7 { 1 } else { 60 }).await });
    }
    for answer in tasks.join_all().await {
        answer?;
    }
    ensure!(began.elapsed() > Duration::from_millis(900) && began.elapsed() < SOON, "{:?}", began.elapsed());
    ensure!(log()? == ["up", "asked"], "{:?}", log()?);
    let status = cri.container(&main).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (137, "Error"), "{status:?}");
    ensure!(!leaks::processes(node.daemon.mark())?.iter().any(|p| p.command.contains("echo asked")));
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &Default::default())
}
