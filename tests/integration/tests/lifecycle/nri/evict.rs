//! Containers that plugins evict.

use super::*;

/// The daemon's log has the reason; the kubelet sees a container that was killed.
async fn assert_evicted(stage: &Stage, id: &str, reason: &str) -> Result<()> {
    let status = stage.cri.wait_exit(id, SOON).await?;
    assert_eq!((status.state(), status.exit_code), (v1::ContainerState::ContainerExited, 137), "{status:?}");
    let log = stage.node.daemon.log();
    assert!(log.lines().any(|line| line.contains(id) && line.contains(reason)), "{log}");
    Ok(())
}

async fn assert_runs(stage: &Stage, id: &str) -> Result<()> {
    assert_eq!(stage.cri.container(id).await?.state(), v1::ContainerState::ContainerRunning);
    Ok(())
}

#[tokio::test]
async fn a_plugin_evicts_a_container_by_itself() -> Result<()> {
    let mut stage = Stage::start("").await?;
    // The first is nobody's, which keeps the plugin from nothing else.
    let behaviour = json!({
        "container": "victim",
        "evict": [{ "container_id": "f".repeat(64), "reason": "unknown" }, { "reason": "its node is wanted" }],
    });
    stage.plugin("10", "evict", behaviour).await?;
    let (pod, id) = stage.pod("nri-evict").await?;
    let other = stage.cri.run(&id, &idle("other"), &pod).await?;
    let victim = stage.cri.run(&id, &idle("victim"), &pod).await?;
    assert_evicted(&stage, &victim, "its node is wanted").await?;
    let asked = stage.event("evict", "UpdateContainers").await?;
    assert!(asked.get("text").is_none() && asked.get("failed").is_none(), "{asked}");
    let stopped = stage.event("evict", "StopContainer").await?;
    assert_eq!(stopped["container"]["id"], json!(victim), "{stopped}");
    assert_runs(&stage, &other).await?;
    stage.end(&id).await
}

#[tokio::test]
async fn a_container_is_evicted_for_one_that_is_created() -> Result<()> {
    let mut stage = Stage::start("").await?;
    let (pod, id) = stage.pod("nri-evict-for").await?;
    let first = stage.cri.run(&id, &idle("first"), &pod).await?;
    let other = stage.cri.run(&id, &idle("other"), &pod).await?;
    let evict = json!([{ "container_id": first, "reason": "another needs its room" }]);
    stage.plugin("10", "room", json!({ "container": "newcomer", "evict_on_create": evict })).await?;
    let newcomer = stage.cri.run(&id, &idle("newcomer"), &pod).await?;
    assert_evicted(&stage, &first, "another needs its room").await?;
    assert_runs(&stage, &newcomer).await?;
    assert_runs(&stage, &other).await?;
    stage.end(&id).await
}
