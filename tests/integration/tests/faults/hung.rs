//! A network plugin hangs: only its pod waits, and not for ever.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::daemon::Options;
use cricket_testkit::{host, leaks};
use tonic::Code;

use crate::creates::Gate;
use crate::support::{SOON, back_to, footprint, pod_ids, ready, remove, set};

/// What lists and statuses may take while others wait; the other tests of the program run meanwhile.
const AT_ONCE: Duration = Duration::from_millis(50);

async fn limited(timeout: &str) -> Result<Node> {
    let tables = format!("[plugins.'io.cricket.v1']\ncni_plugin_timeout = '{timeout}'\n");
    Node::with(Options { tables, ..Options::default() }).await
}

/// The fastest of some rounds of every list and status.
async fn answers(cri: &Cri, pod: &str, container: &str) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let began = Instant::now();
        cri.pods().await?;
        cri.containers().await?;
        cri.pod(pod).await?;
        cri.container(container).await?;
        cri.runtime().status(v1::StatusRequest { verbose: false }).await?;
        best = best.min(began.elapsed());
    }
    Ok(best)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adding() -> Result<()> {
    let node = limited("2s").await?;
    let cri = node.daemon.cri().await?;
    let other = node.daemon.pod("other");
    let living = cri.run_pod(&other).await?;
    let main = cri.run(&living, &container("main", BUSYBOX, &["sleep", "600"]), &other).await?;
    let before = footprint(&node.daemon)?;
    let gate = Gate::install(&node)?;
    gate.close()?;
    let sandbox = node.daemon.pod("hung");
    let began = Instant::now();
    let call = {
        let (cri, sandbox) = (cri.clone(), sandbox.clone());
        tokio::spawn(async move { cri.run_pod(&sandbox).await })
    };
    gate.reached(0)?;
    let took = answers(&cri, &living, &main).await?;
    ensure!(took < AT_ONCE, "five lists and statuses took {took:?}");
    ensure!(pod_ids(&cri).await? == set(&[&living]));
    ensure!(cri.exec_text(&main, &["echo", "hello"]).await? == "hello\n");

    let status = call.await?.err().context("a pod without a network")?;
    ensure!(began.elapsed() > Duration::from_secs(2) && began.elapsed() < SOON, "{:?}", began.elapsed());
    let text = status.message();
    ensure!(
        text.contains("network") && text.contains("gate") && text.contains("ADD"),
        "the stage is not named: {text}"
    );
    ensure!(matches!(status.code(), Code::DeadlineExceeded | Code::Internal | Code::Unavailable), "{status:?}");
    back_to(&node.daemon, &before)?;
    ensure!(!leaks::processes(node.daemon.mark())?.iter().any(|p| p.command.contains("plugins/gate")), "it still runs");

    gate.open()?;
    let id = cri.run_pod(&sandbox).await?;
    ready(&cri, &id).await?;
    remove(&cri, &id).await?;
    back_to(&node.daemon, &before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting() -> Result<()> {
    let node = limited("1s").await?;
    let cri = node.daemon.cri().await?;
    let gate = Gate::install(&node)?;
    let sandbox = node.daemon.pod("hung");
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    // The same plugin, now hanging at its DEL.
    let program = node.daemon.plugins().join("gate");
    let good = std::fs::read_to_string(&program)?;
    std::fs::write(&program, "#!/bin/sh\nsleep 77\n")?;
    let began = Instant::now();
    let stop = {
        let (cri, pod) = (cri.clone(), pod.clone());
        tokio::spawn(async move { cri.stop_pod(&pod).await })
    };
    host::wait_for("the plugin to hang", SOON, || {
        let hangs = |p: &leaks::Process| p.command == "sleep 77";
        Ok(leaks::processes(node.daemon.mark())?.iter().any(hangs).then_some(()))
    })?;
    let took = answers(&cri, &pod, &main).await?;
    ensure!(took < AT_ONCE, "five lists and statuses took {took:?}");
    let status = stop.await?.err().context("the network is not torn down, and nobody says so")?;
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    ensure!(status.message().contains("DEL") && status.message().contains("gate"), "{status:?}");
    ensure!(cri.container(&main).await?.exit_code == 137, "what runs in the pod does not wait for its network");
    ensure!(cri.pod(&pod).await?.state() == v1::PodSandboxState::SandboxNotready);
    // Once it works again the pod can be stopped and removed.
    std::fs::write(&program, good)?;
    ensure!(gate.begun() == 1);
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &Default::default())
}
