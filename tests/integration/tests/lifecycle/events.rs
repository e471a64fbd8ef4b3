//! GetContainerEvents, which an evented kubelet follows instead of listing.

use std::time::Duration;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::cri;
use tonic::Streaming;
use v1::ContainerEventType as Kind;

use crate::support::shell;

type Events = Streaming<v1::ContainerEventResponse>;

async fn subscribe(node: &Node) -> Result<Events> {
    let cri = node.daemon.cri().await?;
    Ok(cri.runtime().get_container_events(v1::GetEventsRequest {}).await?.into_inner())
}

async fn next(events: &mut Events) -> Result<v1::ContainerEventResponse> {
    tokio::time::timeout(Duration::from_secs(10), events.message())
        .await?
        .context("the stream failed")?
        .context("ended")
}

#[tokio::test]
async fn every_change_is_told_with_statuses_to_everyone() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let (mut first, mut second) = (subscribe(&node).await?, subscribe(&node).await?);
    let pod = cri::host_network(node.daemon.pod("events"));
    let id = cri.run_pod(&pod).await?;
    let main = cri.create(&id, &shell("main", "sleep 0.2; exit 4"), &pod).await?;
    cri.start(&main).await?;
    cri.wait_exit(&main, Duration::from_secs(10)).await?;
    cri.remove(&main).await?;
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    let ready = v1::PodSandboxState::SandboxReady;
    let gone = v1::PodSandboxState::SandboxNotready;
    let (created, running, exited) = (
        v1::ContainerState::ContainerCreated,
        v1::ContainerState::ContainerRunning,
        v1::ContainerState::ContainerExited,
    );
    let expected = [
        (&id, Kind::ContainerCreatedEvent, ready, vec![]),
        (&id, Kind::ContainerStartedEvent, ready, vec![]),
        (&main, Kind::ContainerCreatedEvent, ready, vec![created]),
        (&main, Kind::ContainerStartedEvent, ready, vec![running]),
        (&main, Kind::ContainerStoppedEvent, ready, vec![exited]),
        (&main, Kind::ContainerDeletedEvent, ready, vec![]),
        (&id, Kind::ContainerStoppedEvent, gone, vec![]),
        (&id, Kind::ContainerDeletedEvent, gone, vec![]),
    ];
    for events in [&mut first, &mut second] {
        let mut last = 0;
        for (id, kind, state, containers) in &expected {
            let event = next(events).await?;
            assert_eq!((&event.container_id, event.container_event_type()), (*id, *kind));
            assert!(event.created_at >= last && event.created_at > 0);
            last = event.created_at;
            let sandbox =
                event.pod_sandbox_status.clone().with_context(|| format!("{kind:?}: no status of the pod"))?;
            assert_eq!((sandbox.id.as_str(), sandbox.state()), (expected[0].0.as_str(), *state), "{kind:?}");
            let states: Vec<_> = event.containers_statuses.iter().map(v1::ContainerStatus::state).collect();
            assert_eq!(&states, containers, "{kind:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_network_namespace_that_vanishes_makes_the_sandbox_not_ready() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let pod = node.daemon.pod("events-netns");
    let id = cri.run_pod(&pod).await?;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
    let answer = cri.runtime().pod_sandbox_status(request).await?.into_inner();
    let info: serde_json::Value = serde_json::from_str(answer.info.get("info").context("info")?)?;
    let netns = info["networkNamespace"].as_str().context("a path")?.to_owned();
    let mut events = subscribe(&node).await?;
    cricket_testkit::host::run("umount", ["-l", &netns])?;
    std::fs::remove_file(&netns)?;
    let event = next(&mut events).await?;
    assert_eq!((event.container_id.as_str(), event.container_event_type()), (id.as_str(), Kind::ContainerStoppedEvent));
    assert_eq!(event.pod_sandbox_status.unwrap_or_default().state(), v1::PodSandboxState::SandboxNotready);
    assert_eq!(cri.pod(&id).await?.state(), v1::PodSandboxState::SandboxNotready);
    cri.stop_pod(&id).await?;
    cri.remove_pod(&id).await?;
    node.daemon.assert_no_leaks(Duration::from_secs(5))
}
