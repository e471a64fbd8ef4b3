//! A pod's monitor is killed at named points of the daemon's work, or can not be replaced.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::ContainerState;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::daemon::Daemon;
use cricket_testkit::{host, leaks};
use tonic::Code;

use crate::disks::on_disk;
use crate::monitors::kernel_tells_exits;
use crate::support::{
    Neighbour, SOON, back_to, footprint, gone, halt_at, kill, monitor, pid, pod_ids, ready, remove, set, up,
};

/// Kills the monitors of all other pods; answers how many there were.
fn kill_monitors(mark: &str, but: &str) -> Result<usize> {
    let all = leaks::processes(mark)?;
    let found = all.iter().filter(|p| p.command.starts_with("cricket-monitor ") && !p.command.contains(but));
    let pids: Vec<i32> = found.map(|p| p.pid).collect();
    for pid in &pids {
        kill("KILL", *pid)?;
        gone(*pid)?;
    }
    Ok(pids.len())
}

/// Kills the one monitor that there has to be.
fn kill_one(mark: &str, but: &str) -> Result<()> {
    let killed = kill_monitors(mark, but)?;
    ensure!(killed == 1, "{killed} monitors");
    Ok(())
}

/// The pod has a monitor, and takes a container that runs.
async fn works(daemon: &Daemon, cri: &Cri, pod: &str, sandbox: &cricket_cri_api::v1::PodSandboxConfig) -> Result<()> {
    host::wait_for("a monitor", SOON, || Ok(monitor(daemon, pod).ok()))?;
    ready(cri, pod).await?;
    let id = cri.run(pod, &container("probe", BUSYBOX, &["sleep", "600"]), sandbox).await?;
    ensure!(cri.exec_text(&id, &["echo", "hello"]).await? == "hello\n");
    cri.remove(&id).await?;
    Ok(())
}

#[tokio::test]
async fn while_a_pod_is_made() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    let (mark, other) = (node.daemon.mark().to_owned(), neighbour.pod.clone());
    let (mut made, mut failed) = (0, 0);
    for point in ["sandbox.monitor", "cni.added", "sandbox.attached", "sandbox.ready"] {
        let at = || format!("after {point}");
        let sandbox = node.daemon.pod("victim");
        // Monitor and network are set up at once: at the second point there may be no monitor yet.
        let cut = || match point {
            "cni.added" => kill_monitors(&mark, &other).map(drop),
            _ => kill_one(&mark, &other),
        };
        let answer = halt_at(&mut node.daemon, point, async |cri| cri.run_pod(&sandbox).await, cut).await?;
        let cri = node.daemon.cri().await?;
        let pod = match answer {
            Ok(pod) => {
                made += 1;
                pod
            }
            Err(status) => {
                failed += 1;
                ensure!(status.message().contains("monitor"), "{}: {status:?}", at());
                ensure!(pod_ids(&cri).await? == set(&[&other]), "{}: half a pod is listed", at());
                back_to(&node.daemon, &before).with_context(at)?;
                cri.run_pod(&sandbox).await.with_context(at)?
            }
        };
        works(&node.daemon, &cri, &pod, &sandbox).await.with_context(at)?;
        remove(&cri, &pod).await.with_context(at)?;
        back_to(&node.daemon, &before).with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    println!("monitors killed while pods were made: {made} made, {failed} failed");
    Ok(())
}

#[tokio::test]
async fn while_a_container_is_made() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let (mark, other) = (node.daemon.mark().to_owned(), neighbour.pod.clone());
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("victim");
    let clean = footprint(&node.daemon)?;
    let pod = cri.run_pod(&sandbox).await?;
    for point in ["container.recorded", "container.mounted", "container.created"] {
        let at = || format!("after {point}");
        let config = container(point, BUSYBOX, &["sleep", "600"]);
        let create = async |cri: Cri| cri.create(&pod, &config, &sandbox).await;
        let answer = halt_at(&mut node.daemon, point, create, || kill_one(&mark, &other)).await?;
        let cri = node.daemon.cri().await?;
        let id = match answer {
            Ok(id) => id,
            Err(_) => cri.create(&pod, &config, &sandbox).await.with_context(at)?,
        };
        ensure!(cri.containers().await?.iter().filter(|c| c.pod_sandbox_id == pod).count() == 1, "{}", at());
        host::wait_for("another monitor", SOON, || Ok(monitor(&node.daemon, &pod).ok())).with_context(at)?;
        cri.start(&id).await.with_context(at)?;
        ensure!(cri.exec_text(&id, &["echo", "hello"]).await.with_context(at)? == "hello\n");
        cri.remove(&id).await.with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    let cri = node.daemon.cri().await?;
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &clean)
}

#[tokio::test]
async fn while_a_pod_is_removed() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let (mark, other) = (node.daemon.mark().to_owned(), neighbour.pod.clone());
    let before = footprint(&node.daemon)?;
    let points = [
        "exit.recorded",
        "stop.recorded",
        "sandbox.detached",
        "remove.recorded",
        "remove.discarded",
        "sandbox.removed",
    ];
    for point in points {
        let at = || format!("after {point}");
        let (cri, sandbox) = (node.daemon.cri().await?, node.daemon.pod("victim"));
        let pod = cri.run_pod(&sandbox).await?;
        cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
        // It leaves when the network is gone.
        let cut = || match point {
            "exit.recorded" | "stop.recorded" | "sandbox.detached" => kill_one(&mark, &other),
            _ => kill_monitors(&mark, &other).map(drop),
        };
        let answer = halt_at(&mut node.daemon, point, async |cri| cri.remove_pod(&pod).await, cut).await?;
        let cri = node.daemon.cri().await?;
        if answer.is_err() {
            cri.remove_pod(&pod).await.with_context(at)?;
        }
        ensure!(pod_ids(&cri).await? == set(&[&other]), "{}: it is still listed", at());
        back_to(&node.daemon, &before).with_context(at)?;
        // The name is free.
        let again = cri.run_pod(&sandbox).await.with_context(at)?;
        works(&node.daemon, &cri, &again, &sandbox).await.with_context(at)?;
        remove(&cri, &again).await.with_context(at)?;
        back_to(&node.daemon, &before).with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    Ok(())
}

/// Without space and without a monitor: ends are noticed all the same, so what runs can be stopped and removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_another_one() -> Result<()> {
    let (disk, node) = on_disk(|node| node.daemon.state(), "4m").await?;
    let cri = node.daemon.cri().await?;
    let before = footprint(&node.daemon)?;
    let sandbox = node.daemon.pod("victim");
    let pod = cri.run_pod(&sandbox).await?;
    let script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done";
    let (polite, deaf) =
        (container("polite", BUSYBOX, &["sh", "-c", script]), container("deaf", BUSYBOX, &["sleep", "600"]));
    let brief = container("brief", BUSYBOX, &["sh", "-c", script]);
    let (main, other) = (cri.run(&pod, &polite, &sandbox).await?, cri.run(&pod, &deaf, &sandbox).await?);
    let third = cri.run(&pod, &brief, &sandbox).await?;
    up(&sandbox, &polite)?;
    up(&sandbox, &brief)?;
    let ends = pid(&cri, &third).await?;
    disk.fill()?;
    // No socket can be made where there is something else.
    let socket = disk.path().join("pods").join(&pod).join("monitor.sock");
    std::fs::remove_file(&socket)?;
    std::fs::create_dir(&socket)?;
    let old = monitor(&node.daemon, &pod)?;
    kill("KILL", old)?;
    gone(old)?;
    let refused = cri.exec(&main, &["true"], 5).await;
    ensure!(refused.as_ref().is_err_and(|e| e.code() == Code::Unavailable), "{refused:?}");
    ensure!(cri.container(&main).await?.state() == ContainerState::ContainerRunning);

    let known = |code: i32, status: &cricket_cri_api::v1::ContainerStatus| -> Result<()> {
        let told = (status.exit_code, status.reason.as_str());
        ensure!(told == (code, "Error") || (told == (255, "Unknown") && !kernel_tells_exits()?), "{status:?}");
        Ok(())
    };
    kill("TERM", ends)?;
    known(7, &cri.wait_exit(&third, SOON).await?)?;
    let began = Instant::now();
    cri.stop(&main, 60).await?;
    known(7, &cri.container(&main).await?)?;
    cri.remove(&main).await?;
    cri.stop_pod(&pod).await?;
    known(137, &cri.container(&other).await?)?;
    cri.remove_pod(&pod).await?;
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    ensure!(cri.pods().await?.is_empty() && monitor(&node.daemon, &pod).is_err());
    disk.free()?;
    back_to(&node.daemon, &before)?;
    // Another pod has what it needs.
    let again = cri.run_pod(&sandbox).await?;
    works(&node.daemon, &cri, &again, &sandbox).await?;
    remove(&cri, &again).await?;
    back_to(&node.daemon, &before)
}
