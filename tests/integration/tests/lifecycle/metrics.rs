//! Metrics, and the lists that come as streams.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use cricket_cri_api::v1;

use crate::support::{Node, Scene, idle};

/// What a running container on any host has, whatever it does.
const ALWAYS: [&str; 24] = [
    "container_cpu_usage_seconds_total",
    "container_cpu_user_seconds_total",
    "container_cpu_system_seconds_total",
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_memory_rss",
    "container_memory_cache",
    "container_memory_mapped_file",
    "container_memory_failcnt",
    "container_memory_total_active_file_bytes",
    "container_memory_total_inactive_file_bytes",
    "container_memory_failures_total",
    "container_oom_events_total",
    "container_fs_usage_bytes",
    "container_fs_limit_bytes",
    "container_fs_inodes_total",
    "container_fs_inodes_free",
    "container_processes",
    "container_file_descriptors",
    "container_sockets",
    "container_threads",
    "container_threads_max",
    "container_last_seen",
    "container_start_time_seconds",
];

async fn descriptors(scene: &Scene) -> Result<HashMap<String, Vec<String>>> {
    let answer = scene.cri.runtime().list_metric_descriptors(v1::ListMetricDescriptorsRequest {}).await?.into_inner();
    Ok(answer.descriptors.into_iter().map(|d| (d.name, d.label_keys)).collect())
}

async fn of_pod(scene: &Scene) -> Result<v1::PodSandboxMetrics> {
    let answer = scene.cri.runtime().list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {}).await?.into_inner();
    answer.pod_metrics.into_iter().find(|pod| pod.pod_sandbox_id == scene.id).context("the pod's metrics")
}

/// The value of a metric by its name and its own labels.
fn by_name(
    metrics: &[v1::Metric],
    labels: &HashMap<String, Vec<String>>,
    common: [&str; 5],
) -> BTreeMap<(String, String), u64> {
    let entry = |metric: &v1::Metric| {
        let keys = labels.get(&metric.name).unwrap_or_else(|| panic!("{} has no descriptor", metric.name));
        assert_eq!(keys.len(), metric.label_values.len(), "{metric:?}");
        assert_eq!(metric.label_values[..5], common, "{}", metric.name);
        let value = metric.value.unwrap_or_else(|| panic!("{} has no value", metric.name)).value;
        ((metric.name.clone(), metric.label_values[5..].join(",")), value)
    };
    metrics.iter().map(entry).collect()
}

#[tokio::test]
async fn metrics_of_a_pod_and_its_container() -> Result<()> {
    // A daemon of its own: what a container has on the disk is looked at again only after a while, and the other tests ask
    // for the metrics of all.
    let node = Node::start().await?;
    let pod = node.daemon.pod("metrics");
    let scene = Scene::with(Arc::new(node), pod).await?;
    let mut config = idle("main");
    let resources = config.linux.get_or_insert_default().resources.get_or_insert_default();
    (resources.memory_limit_in_bytes, resources.cpu_period, resources.cpu_quota) = (64 << 20, 100_000, 50_000);
    let main = scene.run(&config).await?;
    let gateway = scene.node.daemon.network().gateway();
    let script = format!("head -c 3000000 /dev/zero > /file; ping -c 3 -i 0.2 -s 1000 {gateway} >/dev/null");
    scene.sh(&main, &script).await?;

    let labels = descriptors(&scene).await?;
    assert_eq!(labels.len(), 49);
    let answer = of_pod(&scene).await?;
    let metadata = scene.pod.metadata.clone().unwrap_or_default();
    let (pod, namespace) = (metadata.name.as_str(), metadata.namespace.as_str());

    let network = by_name(&answer.metrics, &labels, [pod, namespace, "", &scene.id, ""]);
    assert_eq!(network.len(), 8, "{network:?}");
    let count = |name: &str| network[&(format!("container_network_{name}_total"), "eth0".to_owned())];
    assert!(count("transmit_bytes") > 3000 && count("receive_bytes") > 3000, "{network:?}");
    assert!(count("transmit_packets") >= 3 && count("receive_packets") >= 3, "{network:?}");

    assert_eq!(answer.container_metrics.len(), 1);
    let container = &answer.container_metrics[0];
    assert_eq!(container.container_id, main);
    let image = config.image.clone().unwrap_or_default().user_specified_image;
    let image = if image.is_empty() { config.image.unwrap_or_default().image } else { image };
    let figures = by_name(&container.metrics, &labels, [pod, namespace, "main", &main, &image]);
    let names: BTreeSet<_> = figures.keys().map(|(name, _)| name.as_str()).collect();
    for name in ALWAYS {
        assert!(names.contains(name), "no {name} in {names:?}");
    }
    let value = |name: &str, own: &str| figures[&(format!("container_{name}"), own.to_owned())];
    assert_eq!(value("spec_memory_limit_bytes", ""), 64 << 20);
    assert_eq!(value("spec_cpu_period", ""), 100_000);
    assert!((1..64 << 20).contains(&value("memory_usage_bytes", "")), "{figures:?}");
    assert!(value("memory_failures_total", "pgfault,container") > 0);
    assert!(value("threads", "") >= value("processes", "") && value("processes", "") >= 1, "{figures:?}");
    assert!(value("file_descriptors", "") >= 3, "{figures:?}");
    assert!(value("fs_usage_bytes", "/") >= 3_000_000 && value("fs_limit_bytes", "/") > value("fs_usage_bytes", "/"));
    assert!(value("ulimits_soft", "RLIMIT_NOFILE") > 0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    assert!(now.abs_diff(value("last_seen", "")) < 30 && value("start_time_seconds", "").abs_diff(now) < 120);
    scene.end().await
}

#[tokio::test]
async fn what_does_not_run_has_no_metrics() -> Result<()> {
    let scene = Scene::host("metrics-ended").await?;
    let main = scene.idle("main").await?;
    scene.cri.create(&scene.id, &idle("created"), &scene.pod).await?;
    let answer = of_pod(&scene).await?;
    assert_eq!(answer.metrics, [], "on the host's network nothing is the pod's");
    let ids: Vec<_> = answer.container_metrics.iter().map(|c| c.container_id.as_str()).collect();
    assert_eq!(ids, [main.as_str()]);
    scene.cri.stop(&main, 0).await?;
    assert_eq!(of_pod(&scene).await?.container_metrics, []);
    scene.cri.stop_pod(&scene.id).await?;
    assert!(of_pod(&scene).await.is_err(), "a pod that is not ready is listed");
    scene.end().await
}

/// All items of a stream.
async fn all<M, T>(stream: tonic::Response<tonic::Streaming<M>>, items: fn(M) -> Vec<T>) -> Result<Vec<T>> {
    let mut stream = stream.into_inner();
    let mut found = Vec::new();
    while let Some(message) = stream.message().await? {
        found.extend(items(message));
    }
    Ok(found)
}

#[tokio::test]
async fn streams_have_what_the_lists_have() -> Result<()> {
    let scene = Scene::host("streams").await?;
    let mut running = Vec::new();
    for name in ["a", "b", "c"] {
        running.push(scene.idle(name).await?);
    }
    scene.cri.create(&scene.id, &idle("created"), &scene.pod).await?;
    let mut client = scene.cri.runtime();

    let filter = Some(v1::ContainerFilter { pod_sandbox_id: scene.id.clone(), ..Default::default() });
    let list = client.list_containers(v1::ListContainersRequest { filter: filter.clone() }).await?.into_inner();
    let stream = client.stream_containers(v1::StreamContainersRequest { filter }).await?;
    assert_eq!(all(stream, |m| m.containers).await?, list.containers);
    assert_eq!(list.containers.len(), 4);

    let filter = Some(v1::PodSandboxFilter { id: scene.id.clone(), ..Default::default() });
    let list = client.list_pod_sandbox(v1::ListPodSandboxRequest { filter: filter.clone() }).await?.into_inner();
    let stream = client.stream_pod_sandboxes(v1::StreamPodSandboxesRequest { filter }).await?;
    assert_eq!(all(stream, |m| m.pod_sandboxes).await?, list.items);
    assert_eq!(list.items.len(), 1);

    let filter = Some(v1::ContainerStatsFilter { pod_sandbox_id: scene.id.clone(), ..Default::default() });
    let stream = client.stream_container_stats(v1::StreamContainerStatsRequest { filter }).await?;
    let stats = all(stream, |m| m.container_stats).await?;
    assert!(stats.iter().all(|s| s.memory.is_some()), "{stats:?}");
    let mut ids: Vec<_> = stats.into_iter().filter_map(|s| s.attributes).map(|a| a.id).collect();
    ids.sort();
    running.sort();
    assert_eq!(ids, running);

    let filter = Some(v1::PodSandboxStatsFilter { id: scene.id.clone(), ..Default::default() });
    let stream = client.stream_pod_sandbox_stats(v1::StreamPodSandboxStatsRequest { filter }).await?;
    let stats = all(stream, |m| m.pod_sandbox_stats).await?;
    assert_eq!(stats.len(), 1);
    assert_eq!(stats[0].linux.as_ref().context("linux")?.containers.len(), 3);

    let stream = client.stream_pod_sandbox_metrics(v1::StreamPodSandboxMetricsRequest {}).await?;
    let metrics = all(stream, |m| m.pod_sandbox_metrics).await?;
    let own = metrics.iter().find(|m| m.pod_sandbox_id == scene.id).context("the pod's metrics")?;
    assert_eq!(own.container_metrics.len(), 3);

    let mut images = scene.cri.images();
    let list = images.list_images(v1::ListImagesRequest { filter: None }).await?.into_inner().images;
    let stream = images.stream_images(v1::StreamImagesRequest { filter: None }).await?;
    let ids = |list: &[v1::Image]| list.iter().map(|image| image.id.clone()).collect::<BTreeSet<_>>();
    let streamed = all(stream, |m| m.images).await?;
    // Other tests of this daemon pull images meanwhile.
    assert!(!list.is_empty() && (ids(&list).is_subset(&ids(&streamed)) || ids(&streamed).is_subset(&ids(&list))));
    scene.end().await
}

#[tokio::test]
async fn a_stream_that_cannot_begin_is_an_error() -> Result<()> {
    let scene = Scene::host("streams-refused").await?;
    let mut digits: HashMap<String, usize> = HashMap::new();
    for n in 0..17 {
        let id = scene.cri.create(&scene.id, &idle(&format!("many-{n}")), &scene.pod).await?;
        *digits.entry(id[..1].to_owned()).or_default() += 1;
    }
    let id = digits.into_iter().find(|(_, n)| *n > 1).map(|(digit, _)| digit).context("two alike")?;
    let filter = Some(v1::ContainerFilter { id, ..Default::default() });
    let error = scene.cri.runtime().stream_containers(v1::StreamContainersRequest { filter }).await;
    assert_eq!(error.expect_err("ambiguous").code(), tonic::Code::InvalidArgument);
    scene.end().await
}
