//! The daemon is killed in the middle of RunPodSandbox, StopPodSandbox and RemovePodSandbox.

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::PodSandboxState;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::container;
use tonic::Code;

use crate::support::{Neighbour, back_to, die_at, footprint, pod_ids, ready, refused, remove, set};

#[tokio::test]
async fn a_pod_that_was_half_made_is_taken_back() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    for point in ["sandbox.recorded", "sandbox.netns", "cni.recorded", "cni.added", "sandbox.attached"] {
        let config = node.daemon.pod("victim");
        let cri = die_at(&mut node.daemon, point, async |cri| cri.run_pod(&config).await).await?;
        let at = || format!("after {point}");
        ensure!(pod_ids(&cri).await? == set(&[&neighbour.pod]), "{}: half a pod is listed", at());
        back_to(&node.daemon, &before).with_context(at)?;
        let id = cri.run_pod(&config).await.with_context(at)?;
        ready(&cri, &id).await.with_context(at)?;
        remove(&cri, &id).await.with_context(at)?;
        back_to(&node.daemon, &before).with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_pod_that_was_made_is_given_to_the_retry() -> Result<()> {
    let mut node = Node::start().await?;
    let mut config = node.daemon.pod("victim");
    for n in 0..20 {
        config.labels.insert(format!("label-{n}"), n.to_string());
        config.annotations.insert(format!("annotation-{n}"), n.to_string());
    }
    let cri = die_at(&mut node.daemon, "sandbox.ready", async |cri| cri.run_pod(&config).await).await?;
    let listed = cri.pods().await?;
    ensure!(listed.len() == 1 && listed[0].state() == PodSandboxState::SandboxReady, "{listed:?}");
    let mut other = config.clone();
    other.hostname = "other".to_owned();
    refused(cri.run_pod(&other).await, Code::AlreadyExists, &listed[0].id)?;
    ensure!(cri.run_pod(&config).await? == listed[0].id);
    refused(cri.run_pod(&config).await, Code::AlreadyExists, &listed[0].id)?;
    ready(&cri, &listed[0].id).await?;
    remove(&cri, &listed[0].id).await?;
    back_to(&node.daemon, &Default::default())
}

#[tokio::test]
async fn stopping_and_removing_go_on() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    for point in ["stop.recorded", "cni.deleted", "sandbox.detached", "remove.sandbox", "sandbox.removed"] {
        let removing = point.contains("remove");
        let config = node.daemon.pod("victim");
        let cri = node.daemon.cri().await?;
        let id = cri.run_pod(&config).await?;
        let ran = cri.run(&id, &container("main", BUSYBOX, &["sleep", "600"]), &config).await?;
        let at = || format!("after {point}");
        if removing {
            cri.stop_pod(&id).await.with_context(at)?;
        }
        let cri = die_at(&mut node.daemon, point, async |cri| match removing {
            true => cri.remove_pod(&id).await,
            false => cri.stop_pod(&id).await,
        })
        .await?;
        if removing {
            ensure!(pod_ids(&cri).await? == set(&[&neighbour.pod]), "{}: half a pod is listed", at());
        } else {
            let status = cri.container(&ran).await.with_context(at)?;
            ensure!((status.exit_code, status.reason.as_str()) == (137, "Error"), "{}: {status:?}", at());
            cri.stop_pod(&id).await.with_context(at)?;
            ensure!(cri.pod(&id).await?.state() == PodSandboxState::SandboxNotready, "{}", at());
        }
        remove(&cri, &id).await.with_context(at)?;
        back_to(&node.daemon, &before).with_context(at)?;
        neighbour.check(&node.daemon).await.with_context(at)?;
    }
    Ok(())
}
