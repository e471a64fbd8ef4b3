//! Nothing that a pod could notice happens when kubelet and runtime are killed
//! and started again.

use crate::support::{LONG, lines, sh, until};
use anyhow::{Context, Result, bail, ensure};
use cricket_kubelet_tests::{IMAGE, Node, Pod, peer};
use cricket_testkit::{host, leaks, logs};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// How long each of them is away.
const AWAY: Duration = Duration::from_secs(3);
/// Less than that, and more than a busy machine takes from a process that
/// sleeps for a tenth of a second.
const GAP: f64 = 2.0;
/// Lines that the log gets each time: in all the time away less than a pipe
/// holds, so that not even a runtime that reads the logs itself stops the pod.
const LINES: usize = 10;

#[tokio::test]
async fn kills_of_kubelet_and_runtime_are_not_noticed() -> Result<()> {
    let mut node = Node::start().await?;
    let shared = node.shared();
    node.kubelet.add("counts", &spec(&shared))?;
    let before = node.kubelet.wait_ready("counts", LONG).await?;
    let counter = shared.join("counter");

    node.daemon.kill()?;
    tokio::time::sleep(AWAY).await;
    node.daemon.launch()?;
    same(&node, &before).await?;

    node.kubelet.kill()?;
    tokio::time::sleep(AWAY).await;
    node.kubelet.launch().await?;
    same(&node, &before).await?;

    // Both, and a container ends meanwhile.
    node.kubelet.kill()?;
    node.daemon.kill()?;
    let away = Timestamp::now();
    std::fs::write(shared.join("leave"), "")?;
    until("the end of the one that leaves", LONG, || shared.join("left").exists()).await?;
    tokio::time::sleep(AWAY).await;
    let back = Timestamp::now();
    node.daemon.launch()?;
    node.kubelet.launch().await?;
    let exit = |pod: &Pod| pod.containers.get("leaves")?.ended.clone();
    let exit = node.kubelet.wait("counts", "the end of a container", LONG, exit).await?;
    // containerd forgets what ended while it was away.
    let expected = if peer() { (255, "Unknown") } else { (7, "Error") };
    ensure!((exit.code, exit.reason.as_str()) == expected, "{exit:#?}");
    // The kubelet's times are whole seconds.
    let (finished, second) = (exit.finished.context("no time")?, Duration::from_secs(1));
    ensure!(peer() || finished > away - second && finished < back, "{finished} is not from {away} to {back}");
    same(&node, &before).await?;

    // It still works: probes reach it, and the next kill of the runtime alone does no harm either.
    let probed = lines(&shared.join("probes")).len();
    until("two more probes", LONG, || lines(&shared.join("probes")).len() > probed + 1).await?;
    node.daemon.kill_and_launch()?;
    let last = lines(&counter).len();
    until("the counter to go on", LONG, || lines(&counter).len() > last + 10).await?;
    same(&node, &before).await?;

    if !peer() {
        kill_monitor(&node).await?;
        same(&node, &before).await?;
    }

    node.kubelet.delete("counts")?;
    until("the end of the pod", LONG, || shared.join("end").exists()).await?;
    counted(&node, &before, &counter)?;
    ensure!(lines(&shared.join("inits")) == ["init"], "{:?}", lines(&shared.join("inits")));
    node.finish().await
}

/// Kills the pod's monitor, which nothing else does to it.
async fn kill_monitor(node: &Node) -> Result<()> {
    let pods = node.cri().await?.pods().await?;
    let [pod] = &pods[..] else { bail!("not one pod: {pods:#?}") };
    let monitor = format!("cricket-monitor {}", pod.id);
    let running = || -> Result<Vec<i32>> {
        let monitors = leaks::processes(&pod.id)?.into_iter().filter(|process| process.command == monitor);
        Ok(monitors.map(|process| process.pid).collect())
    };
    let [first] = running()?[..] else { bail!("not one monitor: {:?}", leaks::processes(&pod.id)?) };
    host::run("kill", ["-9", &first.to_string()])?;
    until("another monitor", LONG, || running().is_ok_and(|now| now.len() == 1 && now != [first])).await
}

fn spec(shared: &Path) -> Value {
    let mount = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let counts = format!(
        "trap 'echo $i >/shared/end; exit 0' TERM; i=0; while :; do i=$((i+1)); read up idle </proc/uptime; \
         echo $i $up >>/shared/counter; n=0; while [ $n -lt {LINES} ]; do n=$((n+1)); echo line $i.$n; done; \
         sleep 0.1; done"
    );
    let leaves = "while [ ! -e /shared/leave ]; do sleep 0.1; done; touch /shared/left; exit 7";
    json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "volumes": [{ "name": "shared", "hostPath": { "path": shared } }],
        "initContainers": [
            { "name": "init", "image": IMAGE, "command": sh("echo init >>/shared/inits"), "volumeMounts": mount },
        ],
        "containers": [
            {
                "name": "counts", "image": IMAGE, "command": sh(&counts), "volumeMounts": mount,
                "livenessProbe": {
                    "exec": { "command": sh("echo probe >>/shared/probes") },
                    "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 10,
                },
                "readinessProbe": {
                    "exec": { "command": ["test", "-s", "/shared/counter"] },
                    "periodSeconds": 1, "timeoutSeconds": 10,
                },
            },
            { "name": "leaves", "image": IMAGE, "command": sh(leaves), "volumeMounts": mount },
        ],
    })
}

/// The pod is what it was: the same containers, since the same time.
async fn same(node: &Node, before: &Pod) -> Result<()> {
    // Twice, with time for the kubelet to see and to act between.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let found = |pod: &Pod| pod.container("counts").ok()?.running.map(|_| pod.clone());
        let now = node.kubelet.wait("counts", "status", LONG, found).await?;
        ensure!((&now.uid, &now.ip) == (&before.uid, &before.ip), "{now:#?}, not {before:#?}");
        for (name, was) in &before.containers {
            let is = now.container(name)?;
            let facts = (&is.id, &is.image_id, is.restarts, &is.last) == (&was.id, &was.image_id, 0, &None);
            let began = name == "leaves" || is.running == was.running;
            ensure!(facts && began, "{is:#?}, not {was:#?}");
        }
    }
    Ok(())
}

/// No number, no line of the log is missing, and there was no pause.
fn counted(node: &Node, pod: &Pod, counter: &Path) -> Result<()> {
    let mut times = Vec::new();
    for (n, line) in lines(counter).iter().enumerate() {
        let (number, time) = line.split_once(' ').with_context(|| line.clone())?;
        ensure!(number.parse::<usize>()? == n + 1, "{line} is number {}", n + 1);
        times.push(time.parse::<f64>()?);
    }
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.fold(0.0, f64::max);
    println!("{} counts, the longest pause was {longest:.2} s", times.len());
    ensure!(longest < GAP, "the pod stood still for {longest} s");
    ensure!(times.len() > 50, "{}", times.len());

    let log = logs::read(&node.kubelet.container_log(pod, "counts", 0))?;
    ensure!(log.iter().is_sorted_by_key(|record| record.time), "the log's times go back");
    let written = (1..=times.len()).flat_map(|i| (1..=LINES).map(move |n| format!("line {i}.{n}")));
    let logged = logs::lines(&log, "stdout");
    for (n, line) in written.enumerate() {
        // TERM may have come between the count and the last of its lines.
        if n >= times.len().saturating_sub(1) * LINES {
            break;
        }
        if logged.get(n) != Some(&line) {
            bail!("instead of {line:?} the log has {:?}", logged.get(n.saturating_sub(2)..n + 3));
        }
    }
    Ok(())
}
