//! A kubelet with default feature gates finds containers' labels and pods' networks through containerd's socket: the
//! series are the same with either runtime.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::{Node, Options, peer};
use cricket_testkit::daemon::Program;
use serde_json::json;
use std::time::{Duration, Instant};

use crate::support::{LONG, sh};

/// What every container and every sandbox has, with the labels besides those of all.
const OF_ALL: [(&str, &[&str]); 14] = [
    ("container_cpu_usage_seconds_total", &["cpu"]),
    ("container_cpu_user_seconds_total", &[]),
    ("container_cpu_system_seconds_total", &[]),
    ("container_memory_usage_bytes", &[]),
    ("container_memory_working_set_bytes", &[]),
    ("container_memory_rss", &[]),
    ("container_memory_cache", &[]),
    ("container_memory_failcnt", &[]),
    ("container_oom_events_total", &[]),
    ("container_processes", &[]),
    ("container_spec_cpu_shares", &[]),
    ("container_spec_memory_limit_bytes", &[]),
    ("container_start_time_seconds", &[]),
    ("container_last_seen", &[]),
];

/// What only sandboxes have.
const OF_SANDBOXES: [&str; 6] = [
    "container_network_receive_bytes_total",
    "container_network_receive_packets_total",
    "container_network_receive_errors_total",
    "container_network_transmit_bytes_total",
    "container_network_transmit_packets_total",
    "container_network_transmit_packets_dropped_total",
];

/// What kubelets give every series.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

type Labels = BTreeMap<String, String>;

/// The series of a text in Prometheus' format: family, labels, value.
fn series(text: &str) -> Vec<(String, Labels, f64)> {
    let read = |line: &str| {
        let (family, rest) = line.split_once('{')?;
        let (labels, rest) = rest.rsplit_once('}')?;
        let value = rest.split_whitespace().next()?.parse().ok()?;
        // None of the values that are looked at has a comma or a quote in it.
        let labels = labels.split("\",").filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((key.to_owned(), value.trim_matches('"').to_owned()))
        });
        Some((family.to_owned(), labels.collect(), value))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(read).collect()
}

/// What a family has of the pod: for each container (`""`: the sandbox) the names of its labels.
fn of_pod(all: &[(String, Labels, f64)], family: &str, pod: &str) -> BTreeMap<String, BTreeSet<String>> {
    let of = |(name, labels, _): &&(String, Labels, f64)| {
        name == family
            && labels.get("pod").is_some_and(|p| p == pod)
            && labels.get("name").is_some_and(|n| !n.is_empty())
    };
    let found = all.iter().filter(of);
    found.map(|(_, labels, _)| (labels["container"].clone(), labels.keys().cloned().collect())).collect()
}

#[tokio::test]
async fn metrics_have_the_labels_of_a_containerd_node() -> Result<()> {
    let program = if peer() { Program::Containerd } else { Program::Cricket };
    let node = Node::with(Options { program, cadvisor: true, ..Options::default() }).await?;
    let container = |name: &str| {
        json!({ "name": name, "image": cricket_kubelet_tests::IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": sh("trap 'exit 0' TERM; while :; do ping -c 1 -w 1 127.0.0.1 >/dev/null; sleep 1 & wait $!; done"),
                "resources": { "limits": { "memory": "64Mi", "cpu": "500m" } } })
    };
    node.kubelet.add("metrics", &json!({ "containers": [container("main"), container("side")] }))?;
    node.kubelet.wait_ready("metrics", LONG).await?;
    let pod = format!("metrics-{}", node.kubelet.node());
    let names = |extra: &[&str]| LABELS.iter().chain(extra).map(|&l| l.to_owned()).collect::<BTreeSet<_>>();
    let began = Instant::now();
    let all = loop {
        let all = series(&node.kubelet.cadvisor().await?);
        let whole = |family: &str, n: usize| of_pod(&all, family, &pod).len() >= n;
        if OF_ALL.iter().all(|(f, _)| whole(f, 3)) && OF_SANDBOXES.iter().all(|f| whole(f, 1)) {
            break all;
        }
        let missing: Vec<_> =
            OF_ALL.iter().filter(|(f, _)| !whole(f, 3)).map(|(f, _)| (f, of_pod(&all, f, &pod))).collect();
        ensure!(began.elapsed() < LONG * 2, "{missing:#?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    for (family, extra) in OF_ALL {
        let want: BTreeMap<_, _> = ["", "main", "side"].map(|c| (c.to_owned(), names(extra))).into();
        assert_eq!(of_pod(&all, family, &pod), want, "{family}");
    }
    for family in OF_SANDBOXES {
        assert_eq!(of_pod(&all, family, &pod), BTreeMap::from([(String::new(), names(&["interface"]))]), "{family}");
    }
    let mine =
        || all.iter().filter(|(_, l, _)| l.get("pod") == Some(&pod) && l.get("name").is_some_and(|n| !n.is_empty()));
    for (family, labels, _) in mine() {
        assert_eq!(labels["namespace"], "default", "{family} {labels:?}");
        assert!(!labels["image"].is_empty() && labels["name"].len() == 64, "{family} {labels:?}");
        assert!(labels["id"].contains(&labels["name"]), "{family} {labels:?}");
    }
    let image = |container: &str| {
        let found = mine().find(|(_, labels, _)| labels["container"] == container);
        found.map(|(_, labels, _)| labels["image"].clone()).context("no image")
    };
    assert_eq!(image("main")?, cricket_kubelet_tests::IMAGE);
    // The pod's own interface, with what went over it: the address was announced at least.
    let sent = mine().find(|(family, labels, _)| {
        family == "container_network_transmit_bytes_total" && labels["interface"] == "eth0"
    });
    assert!(sent.is_some_and(|(_, _, bytes)| *bytes > 0.0), "{sent:?}");
    let used = mine()
        .find(|(family, labels, _)| family == "container_memory_working_set_bytes" && labels["container"] == "main");
    assert!(used.is_some_and(|(_, _, bytes)| *bytes > 1e4), "{used:?}");
    node.finish().await
}
