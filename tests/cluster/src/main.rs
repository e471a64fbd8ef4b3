//! `cricket-crowd`: a node full of pods, made and deleted again and again while
//! its runtime is killed and its kubelet restarted. `hack/crowd` runs it.
//!
//! Nothing of any pod may be left at the end, and no container may be touched
//! by what happens to the runtime and the kubelet.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cricket_kubelet_tests::cluster::{Api, Change, Cluster, Kubectl};
use cricket_kubelet_tests::{IMAGE, Options, Pod, peer};
use cricket_testkit::daemon::Program;
use cricket_testkit::leaks;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long all of them may take.
const LIMIT: Duration = Duration::from_secs(600);
const PODS: &str = "/api/v1/namespaces/crowd/pods";

/// A crowd of pods, made and deleted again and again
#[derive(Parser)]
struct Cli {
    /// How many pods
    #[arg(long, default_value_t = 60)]
    pods: usize,
    /// How often
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What is killed with SIGKILL, and when. It is started again at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    /// The runtime, while all pods run.
    Running,
    /// The kubelet and then the runtime while all pods run, and the runtime while they are being deleted.
    Deletion,
    /// The runtime, when a third of the pods are ready.
    Creation,
}

impl Disturbance {
    fn of(round: usize) -> Self {
        [Self::Running, Self::Deletion, Self::Creation][round % 3]
    }

    fn text(self) -> &'static str {
        match self {
            Self::Running => "runtime killed while they ran",
            Self::Deletion => "kubelet and runtime killed while they ran, runtime killed while they were deleted",
            Self::Creation => "runtime killed while they were created",
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let program = if peer() { Program::Containerd } else { Program::Cricket };
    let mut options = Options { program, ..Options::default() };
    options.kubelet.config.insert("maxPods".to_owned(), json!(cli.pods + 10));
    let mut cluster = Cluster::with(options).await?;
    cluster.namespace("crowd").await?;
    // The image is pulled once, before anything is measured.
    fill(cluster.api(), 1).await?;
    ready(cluster.api(), 1).await?;
    empty(cluster.api()).await?;
    let before = stored(cluster.nodes()[0].daemon.root());
    for round in 0..cli.rounds {
        one(&mut cluster, cli.pods, round).await.with_context(|| format!("round {}", round + 1))?;
    }
    let daemon = &cluster.nodes()[0].daemon;
    // Sandboxes stay until the kubelet collects them, a minute later.
    daemon.cri().await?.remove_all_pods().await?;
    // containerd's snapshots are collected when it likes, too.
    let left: Vec<_> = stored(daemon.root()).difference(&before).cloned().collect();
    ensure!(left.is_empty() || peer(), "left below {}: {left:#?}", daemon.root().display());
    cluster.finish().await.context("at the end")?;
    println!("crowd: {} rounds of {} pods, nothing left", cli.rounds, cli.pods);
    Ok(())
}

async fn one(cluster: &mut Cluster, count: usize, round: usize) -> Result<()> {
    let (api, disturbance) = (cluster.api().clone(), Disturbance::of(round));
    let began = Instant::now();
    fill(&api, count).await?;
    if disturbance == Disturbance::Creation {
        ready(&api, count.div_ceil(3)).await?;
        cluster.node(0)?.daemon.kill_and_launch()?;
    }
    let first = ready(&api, count).await?;
    let all_ready = began.elapsed();

    if disturbance == Disturbance::Deletion {
        cluster.node(0)?.kubelet.kill()?;
        cluster.node(0)?.daemon.kill_and_launch()?;
        let kubelet = &mut cluster.node(0)?.kubelet;
        kubelet.launch().await?;
        // It learns from the API server which pods are its own.
        for name in first.keys() {
            kubelet.wait(name, "the restarted kubelet to know it", LIMIT, |_| Some(())).await?;
        }
    }
    if disturbance == Disturbance::Running {
        cluster.node(0)?.daemon.kill_and_launch()?;
    }
    if disturbance != Disturbance::Creation {
        same(&api, &cluster.kubectl("crowd")?, &first).await?;
    }

    let began = Instant::now();
    api.delete(PODS).await?;
    if disturbance == Disturbance::Deletion {
        gone(&api, count / 3, count).await?;
        cluster.node(0)?.daemon.kill_and_launch()?;
    }
    gone(&api, count, count).await?;
    let (ready, gone) = (all_ready.as_secs_f64(), began.elapsed().as_secs_f64());
    println!(
        "crowd: round {}: all ready after {ready:.1} s, all gone after {gone:.1} s; {}",
        round + 1,
        disturbance.text()
    );
    Ok(())
}

/// Makes pods, all at once.
async fn fill(api: &Api, count: usize) -> Result<()> {
    let pod = |number: usize| {
        let container = json!({
            "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"],
            "resources": { "requests": { "cpu": "1m", "memory": "1Mi" } },
        });
        let spec = json!({ "terminationGracePeriodSeconds": 10, "containers": [container] });
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("pod-{number}") }, "spec": spec })
    };
    let calls = (0..count).map(|number| {
        let api = api.clone();
        tokio::spawn(async move { api.create(PODS, &pod(number)).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await??;
    }
    Ok(())
}

/// Waits until so many are ready; each one's container and address.
async fn ready(api: &Api, count: usize) -> Result<BTreeMap<String, (String, String)>> {
    let mut all = BTreeMap::new();
    let ask = |change: &Change| {
        let pod = Pod::read(&change.object, "");
        if pod.ready {
            let id = pod.containers.get("main").map(|main| main.id.clone()).unwrap_or_default();
            all.insert(pod.name, (id, pod.ip));
        } else {
            all.remove(&pod.name);
        }
        (all.len() >= count).then(|| all.clone())
    };
    api.watch(PODS, &format!("{count} pods to be ready"), LIMIT, ask).await
}

/// The same containers run as before, and the runtime that was started again works on them.
async fn same(api: &Api, kubectl: &Kubectl, before: &BTreeMap<String, (String, String)>) -> Result<()> {
    for name in before.keys().take(3) {
        kubectl.run(&["exec", name, "--", "true"]).await?;
    }
    let list = api.get(PODS).await?;
    for item in list["items"].as_array().into_iter().flatten() {
        let pod = Pod::read(item, "");
        let main = pod.container("main")?;
        let was = before.get(&pod.name).with_context(|| format!("{} is new", pod.name))?;
        ensure!(main.restarts == 0 && (&main.id, &pod.ip) == (&was.0, &was.1), "{pod:#?} was {was:?}");
    }
    Ok(())
}

/// Waits until so many of all are gone.
async fn gone(api: &Api, count: usize, all: usize) -> Result<()> {
    let list = api.get(PODS).await?;
    let mut left: BTreeSet<_> =
        list["items"].as_array().into_iter().flatten().map(|pod| Pod::read(pod, "").name).collect();
    let version = list["metadata"]["resourceVersion"].as_str().context("a list without a version")?;
    if all - left.len() >= count {
        return Ok(());
    }
    let ask = |change: &Change| {
        if change.kind == "DELETED" {
            left.remove(&Pod::read(&change.object, "").name);
        }
        (all - left.len() >= count).then_some(())
    };
    api.watch(&format!("{PODS}?resourceVersion={version}"), &format!("the end of {count} pods"), LIMIT, ask).await
}

/// Deletes all, and waits for the end of the last.
async fn empty(api: &Api) -> Result<()> {
    api.delete(PODS).await?;
    gone(api, 1, 1).await
}

/// What is in the runtime's store: layers, writable layers, results of plugins.
fn stored(root: &Path) -> BTreeSet<String> {
    let below = |dir: String| leaks::names(&root.join(&dir)).into_iter().map(move |name| format!("{dir}/{name}"));
    leaks::names(root).into_iter().flat_map(below).flat_map(|dir| below(dir.clone()).chain([dir])).collect()
}
