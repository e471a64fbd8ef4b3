//! The daemon is killed in the middle of CreateContainer, StartContainer, StopContainer and RemoveContainer.

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::{self, ContainerState};
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::logs::lines;
use tonic::Code;

use crate::support::{Neighbour, SOON, back_to, container_ids, die_at, footprint, refused, set};

/// Ends with 7 when it is asked to.
const OBEDIENT: &str = "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done";

/// A container with labels in no particular order.
fn labelled(name: &str, script: &str) -> v1::ContainerConfig {
    let mut config = container(name, BUSYBOX, &["sh", "-c", script]);
    config.labels = (0..20).map(|n| (format!("label-{n}"), n.to_string())).collect();
    config
}

async fn runs(cri: &Cri, id: &str) -> Result<()> {
    ensure!(cri.container(id).await?.state() == ContainerState::ContainerRunning, "container {id} does not run");
    ensure!(cri.exec_text(id, &["echo", "hello"]).await? == "hello\n");
    Ok(())
}

#[tokio::test]
async fn creating() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    let (pod, sandbox) = (neighbour.pod.clone(), neighbour.sandbox.clone());
    let points = [
        "container.recorded",
        "rootfs.staged",
        "rootfs.placed",
        "container.mounted",
        "image.noted",
        "container.created",
    ];
    for point in points {
        let at = || format!("after {point}");
        let mut config = labelled("victim", OBEDIENT);
        let image = config.image.clone();
        config.mounts.push(v1::Mount { image, container_path: "/image".into(), ..Default::default() });
        let cri = die_at(&mut node.daemon, point, async |cri| cri.create(&pod, &config, &sandbox).await).await?;
        let made: Vec<_> = cri.containers().await?.into_iter().filter(|c| c.id != neighbour.container).collect();
        if point == "container.created" {
            ensure!(made.len() == 1 && made[0].state() == ContainerState::ContainerCreated, "{}: {made:?}", at());
        } else {
            ensure!(made.is_empty(), "{}: half a container is listed: {made:?}", at());
            back_to(&node.daemon, &before).with_context(at)?;
        }
        let id = cri.create(&pod, &config, &sandbox).await.with_context(at)?;
        ensure!(made.iter().all(|c| c.id == id), "{}: the retry made another one", at());
        refused(cri.create(&pod, &config, &sandbox).await, Code::AlreadyExists, &id).with_context(at)?;
        cri.start(&id).await.with_context(at)?;
        runs(&cri, &id).await.with_context(at)?;
        cri.remove(&id).await.with_context(at)?;
        back_to(&node.daemon, &before).with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    Ok(())
}

#[tokio::test]
async fn starting() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    let (pod, sandbox) = (neighbour.pod.clone(), neighbour.sandbox.clone());
    for (n, point) in ["start.recorded", "start.cgroup", "start.launched", "start.running"].into_iter().enumerate() {
        let at = || format!("after {point}");
        let config = labelled(&format!("victim-{n}"), OBEDIENT);
        let id = node.daemon.cri().await?.create(&pod, &config, &sandbox).await?;
        let cri = die_at(&mut node.daemon, point, async |cri| cri.start(&id).await).await?;
        let status = cri.container(&id).await.with_context(at)?;
        let launched = matches!(point, "start.launched" | "start.running");
        let expected = if launched { ContainerState::ContainerRunning } else { ContainerState::ContainerCreated };
        ensure!(status.state() == expected, "{}: {status:?}", at());
        cri.start(&id).await.with_context(at)?;
        refused(cri.start(&id).await, Code::FailedPrecondition, "running").with_context(at)?;
        runs(&cri, &id).await.with_context(at)?;
        cri.stop(&id, 10).await.with_context(at)?;
        let status = cri.container(&id).await?;
        ensure!(status.exit_code == 7, "{}: {status:?}", at());
        let log = lines(&node.daemon.logs(&sandbox, &config)?, "stdout");
        ensure!(log == ["up"], "{}: {log:?}", at());
        cri.remove(&id).await.with_context(at)?;
        back_to(&node.daemon, &before).with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    Ok(())
}

#[tokio::test]
async fn stopping() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    let (pod, sandbox) = (neighbour.pod.clone(), neighbour.sandbox.clone());
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.02; done";
    for (n, (point, script, code)) in
        [("stop.signal", OBEDIENT, 7), ("stop.kill", stubborn, 137), ("exit.recorded", OBEDIENT, 7)]
            .into_iter()
            .enumerate()
    {
        let at = || format!("after {point}");
        let config = labelled(&format!("victim-{n}"), script);
        let id = node.daemon.cri().await?.run(&pod, &config, &sandbox).await?;
        up(&node, &sandbox, &config)?;
        let cri = die_at(&mut node.daemon, point, async |cri| cri.stop(&id, 1).await).await?;
        if point == "exit.recorded" {
            ensure!(cri.container(&id).await?.exit_code == code, "{}", at());
        } else {
            runs(&cri, &id).await.with_context(at)?;
        }
        cri.stop(&id, 1).await.with_context(at)?;
        let status = cri.container(&id).await.with_context(at)?;
        ensure!((status.exit_code, status.reason.as_str()) == (code, "Error"), "{}: {status:?}", at());
        cri.remove(&id).await.with_context(at)?;
        back_to(&node.daemon, &before).with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    Ok(())
}

/// Waits until the script's trap is set.
fn up(node: &Node, sandbox: &v1::PodSandboxConfig, config: &v1::ContainerConfig) -> Result<()> {
    cricket_testkit::host::wait_for("the container to be up", SOON, || {
        let log = node.daemon.logs(sandbox, config).unwrap_or_default();
        Ok((lines(&log, "stdout") == ["up"]).then_some(()))
    })
}

#[tokio::test]
async fn removing() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    let (pod, sandbox) = (neighbour.pod.clone(), neighbour.sandbox.clone());
    for point in ["remove.recorded", "rootfs.unmounted", "rootfs.discarded", "remove.discarded"] {
        let at = || format!("after {point}");
        let config = labelled("victim", OBEDIENT);
        let id = node.daemon.cri().await?.run(&pod, &config, &sandbox).await.with_context(at)?;
        let cri = die_at(&mut node.daemon, point, async |cri| cri.remove(&id).await).await?;
        ensure!(container_ids(&cri).await? == set(&[&neighbour.container]), "{}: half a container is listed", at());
        cri.remove(&id).await.with_context(at)?;
        refused(cri.container(&id).await, Code::NotFound, &id).with_context(at)?;
        back_to(&node.daemon, &before).with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    Ok(())
}
