//! The node whose kubelet takes events and numbers from the runtime: feature
//! gates EventedPLEG and PodAndContainerStatsFromCRI.

use crate::space::{LONG, Space};
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::{Node, Pod};
use serde_json::Value;
use std::time::{Duration, Instant};

const MANIFEST: &str = include_str!("../../manifests/dedicated.yaml");

/// The text of one of the kubelet's own paths, such as `metrics`.
async fn kubelet(space: &Space, node: &Node, path: &str) -> Result<String> {
    let path = format!("/api/v1/nodes/{}/proxy/{path}", node.kubelet.node());
    space.kubectl.run(&["get", "--raw", &path]).await
}

/// The value of a series without labels.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

pub(crate) async fn numbers_from_the_runtime(space: Space) -> Result<()> {
    space.apply(MANIFEST).await?;
    let running = |pod: &Pod| pod.containers.get("main")?.running.map(|_| pod.clone());
    let pod = space.pod("measured", "its container to run", running).await?;
    let node = space.node("measured").await?;
    let began = Instant::now();
    // The kubelet reads usage twice before it knows a rate.
    let (mine, main) = loop {
        let summary: Value = serde_json::from_str(&kubelet(&space, node, "stats/summary").await?)?;
        let pods = summary["pods"].as_array().cloned().unwrap_or_default();
        let mine = pods.into_iter().find(|each| each["podRef"]["uid"] == *pod.uid);
        let main = mine
            .as_ref()
            .and_then(|pod| pod["containers"].as_array()?.iter().find(|each| each["name"] == "main").cloned());
        if let (Some(mine), Some(main)) = (&mine, &main)
            && main["cpu"]["usageNanoCores"].is_u64()
        {
            break (mine.clone(), main.clone());
        }
        ensure!(began.elapsed() < LONG, "no rate of the pod's container: {mine:#?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    ensure!(main["cpu"]["usageCoreNanoSeconds"].as_u64() > Some(10_000_000), "{main:#}");
    let memory = main["memory"]["workingSetBytes"].as_u64();
    ensure!(memory > Some(0) && memory <= Some(32 << 20), "{main:#}");
    ensure!(main["rootfs"]["usedBytes"].is_u64(), "{main:#}");
    ensure!(mine["network"]["name"] == "eth0" && mine["network"]["rxBytes"].is_u64(), "{mine:#}");

    let metrics = kubelet(&space, node, "metrics/cadvisor").await?;
    let labels = [format!("namespace=\"{}\"", space.kubectl.namespace), "container=\"main\"".to_owned()];
    let series = |name: &str| {
        let mut lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.any(|line| labels.iter().all(|label| line.contains(label)))
    };
    for name in ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_fs_usage_bytes"]
    {
        ensure!(
            series(name),
            "no {name} with {labels:?} in:\n{}",
            metrics.lines().filter(|line| line.contains(&labels[0])).collect::<Vec<_>>().join("\n")
        );
    }
    space.delete("measured").await
}

pub(crate) async fn events_from_the_runtime(space: Space) -> Result<()> {
    space.apply(MANIFEST).await?;
    let ended = |pod: &Pod| pod.containers.get("brief")?.last.clone();
    let exit = space.pod("measured", "the end of its brief container", ended).await?;
    ensure!(exit.code == 1, "{exit:#?}");
    let node = space.node("measured").await?;
    let metrics = kubelet(&space, node, "metrics").await?;
    let lines: Vec<_> = metrics.lines().filter(|line| line.contains("pleg") && !line.starts_with('#')).collect();
    let connected = value(&metrics, "kubelet_evented_pleg_connection_success_count");
    ensure!(connected >= 1.0, "{lines:#?}");
    ensure!(value(&metrics, "kubelet_evented_pleg_connection_error_count") == 0.0, "{lines:#?}");
    let latency = value(&metrics, "kubelet_evented_pleg_connection_latency_seconds_count");
    ensure!(latency > 0.0, "no event came: {lines:#?}");
    let object = space.cluster.api().get(&format!("{}/measured", space.path("pods"))).await?;
    object["status"]["containerStatuses"].as_array().context("no statuses")?;
    space.delete("measured").await
}
