//! A pod's monitor is killed: its containers are not, and the daemon gives them another one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1::ContainerState;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::{host, leaks};

use crate::support::{Neighbour, SOON, alive, back_to, footprint, gone, kill, monitor, pid, remove, up, whole_lines};

/// Kills a pod's monitor; answers when there is another one.
pub(crate) async fn kill_monitor(node: &Node, pod: &str) -> Result<()> {
    let old = monitor(&node.daemon, pod)?;
    kill("KILL", old)?;
    another(node, pod, old)
}

/// Waits for the pod's monitor to be another one.
fn another(node: &Node, pod: &str, old: i32) -> Result<()> {
    host::wait_for("another monitor", SOON, || Ok(monitor(&node.daemon, pod).ok().filter(|new| *new != old).map(drop)))
}

/// From Linux 6.15 on a pidfd tells the exit status of a process that somebody else has reaped.
pub(crate) fn kernel_tells_exits() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    Ok((numbers.next(), numbers.next()) >= (Some(6), Some(15)))
}

async fn never_exited(cri: &Cri, id: &str, pid: i32, during: Duration) -> Result<()> {
    let end = tokio::time::Instant::now() + during;
    while tokio::time::Instant::now() < end {
        let state = cri.container(id).await?.state();
        ensure!(state == ContainerState::ContainerRunning || !alive(pid), "{state:?} while process {pid} lives");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest() -> Result<()> {
    let node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("victim");
    let pod = cri.run_pod(&sandbox).await?;
    let script = "trap 'echo end; exit 7' TERM; n=0; while :; do echo $n; n=$((n+1)); sleep 0.02; done";
    let config = container("main", BUSYBOX, &["sh", "-c", script]);
    let main = cri.run(&pod, &config, &sandbox).await?;
    let init = pid(&cri, &main).await?;

    for _ in 0..3 {
        let old = monitor(&node.daemon, &pod)?;
        kill("KILL", old)?;
        never_exited(&cri, &main, init, Duration::from_millis(300)).await?;
        another(&node, &pod, old)?;
        ensure!(cri.exec_text(&main, &["echo", "again"]).await? == "again\n");
        ensure!(pid(&cri, &main).await? == init);
        crate::support::ready(&cri, &pod).await?;
    }
    // A second container starts under the new monitor.
    let second = cri.run(&pod, &container("second", BUSYBOX, &["true"]), &sandbox).await?;
    ensure!(cri.wait_exit(&second, SOON).await?.exit_code == 0);

    cri.stop(&main, 10).await?;
    let status = cri.container(&main).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (7, "Error"), "{status:?}");
    let lines = whole_lines(Path::new(&sandbox.log_directory), &config)?;
    let (last, numbers) = lines.split_last().context("no log")?;
    ensure!(last == "end");
    let numbers = numbers.iter().map(|n| Ok(n.parse::<usize>()?)).collect::<Result<Vec<_>>>()?;
    ensure!(numbers.is_sorted_by(|a, b| a < b), "repeated or out of order: {numbers:?}");
    // What a monitor had read and not written when it was killed is all that may be missing: on a busy machine it has
    // more than one line to read.
    let lost = numbers.last().context("no number")? + 1 - numbers.len();
    ensure!(lost <= 15, "{lost} lines lost: {numbers:?}");

    cri.remove(&main).await?;
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &before)?;
    neighbour.check(&node.daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_flood_of_output() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("victim");
    let pod = cri.run_pod(&sandbox).await?;
    let config = container("main", BUSYBOX, &["sh", "-c", "seq 1 300000; echo done; sleep 600"]);
    cri.run(&pod, &config, &sandbox).await?;
    let dir = Path::new(&sandbox.log_directory);
    kill_monitor(&node, &pod).await?;
    kill_monitor(&node, &pod).await?;
    host::wait_for("the end of the output", SOON, || {
        let text = std::fs::read(dir.join(&config.log_path))?;
        Ok(text.ends_with(b" done\n").then_some(()))
    })?;
    // Every record is of the format, also where a monitor was killed.
    let lines = whole_lines(dir, &config)?;
    let numbers: Vec<u32> = lines.iter().filter_map(|n| n.parse().ok()).collect();
    ensure!(numbers.last() == Some(&300_000));
    ensure!(numbers.len() > 200_000, "{} of 300000 lines are there", numbers.len());
    remove(&cri, &pod).await?;
    // Nothing stays; the monitor ends, and network plugins that have succeeded are reaped, a moment later.
    back_to(&node.daemon, &Default::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_an_exec() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("victim");
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    let init = pid(&cri, &main).await?;
    let before = footprint(&node.daemon)?;
    let exec = {
        let (cri, main) = (cri.clone(), main.clone());
        tokio::spawn(async move { cri.exec(&main, &["sh", "-c", "echo begun; sleep 31"], 60).await })
    };
    host::wait_for("the exec", SOON, || {
        Ok(leaks::processes(node.daemon.mark())?.iter().any(|p| p.command == "sleep 31").then_some(()))
    })?;
    kill_monitor(&node, &pod).await?;
    // Its caller hears of it, now and not after the timeout; never as a success.
    let answer = tokio::time::timeout(SOON, exec).await.context("the exec hangs")??;
    ensure!(answer.as_ref().map_or(true, |a| a.exit_code != 0), "{answer:?}");
    never_exited(&cri, &main, init, Duration::from_millis(200)).await?;
    ensure!(cri.exec_text(&main, &["echo", "again"]).await? == "again\n");
    // Nothing of the exec stays but under the new monitor.
    let monitors = |line: &String| line.contains("cricket-monitor");
    host::wait_for("the exec's processes to go", SOON, || {
        let now = footprint(&node.daemon)?;
        Ok(now.difference(&before).all(monitors).then_some(()))
    })
    .with_context(|| format!("{:?}", footprint(&node.daemon).unwrap_or_default().difference(&before)))?;
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &Default::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_start() -> Result<()> {
    let node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let cri = node.daemon.cri().await?;
    let before = footprint(&node.daemon)?;
    let sandbox = node.daemon.pod("victim");
    let pod = cri.run_pod(&sandbox).await?;
    let (mut failed, mut started) = (0, 0);
    for n in 0..12u64 {
        let config = container(&format!("main-{n}"), BUSYBOX, &["sleep", "600"]);
        let id = cri.create(&pod, &config, &sandbox).await?;
        let start = {
            let (cri, id) = (cri.clone(), id.clone());
            tokio::spawn(async move { cri.start(&id).await })
        };
        tokio::time::sleep(Duration::from_millis(n * 8)).await;
        kill_monitor(&node, &pod).await?;
        let answer = tokio::time::timeout(SOON, start).await.context("the start hangs")??;
        let state = cri.container(&id).await?.state();
        let running = || {
            let all = leaks::processes(node.daemon.mark())?;
            Ok::<_, anyhow::Error>(
                all.into_iter().filter(|p| alive(p.pid) && in_cgroup(p.pid, &id)).collect::<Vec<_>>(),
            )
        };
        if answer.is_ok() {
            started += 1;
            ensure!(state == ContainerState::ContainerRunning, "{state:?} after a start that succeeded");
            answers(&cri, &id).await?;
        } else {
            failed += 1;
            ensure!(state == ContainerState::ContainerExited, "{state:?} after a start that failed: {answer:?}");
            let left = running()?;
            ensure!(left.is_empty(), "EXITED, and there are {left:?}: {answer:?}");
        }
        cri.stop(&id, 0).await?;
        cri.remove(&id).await?;
        ensure!(running()?.is_empty());
    }
    println!("monitors killed during starts: {started} started, {failed} failed");
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &before)?;
    neighbour.check(&node.daemon).await
}

/// An exec succeeds as soon as the daemon knows the new monitor.
async fn answers(cri: &Cri, id: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        match cri.exec_text(id, &["echo", "hello"]).await {
            Ok(text) => {
                ensure!(text == "hello\n");
                return Ok(());
            }
            Err(e) if began.elapsed() > SOON => return Err(e),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn in_cgroup(pid: i32, id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().contains(id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_stop_waits() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("victim");
    let pod = cri.run_pod(&sandbox).await?;
    let script = "trap 'echo asked; sleep 1; exit 5' TERM; echo up; while :; do sleep 0.02; done";
    let config = container("main", BUSYBOX, &["sh", "-c", script]);
    let main = cri.run(&pod, &config, &sandbox).await?;
    let init = pid(&cri, &main).await?;
    let dir = Path::new(&sandbox.log_directory);
    host::wait_for("the container to be up", SOON, || Ok((whole_lines(dir, &config)? == ["up"]).then_some(())))?;
    let stop = {
        let (cri, main) = (cri.clone(), main.clone());
        tokio::spawn(async move { cri.stop(&main, 30).await })
    };
    host::wait_for("the signal", SOON, || Ok((whole_lines(dir, &config)?.len() == 2).then_some(())))?;
    kill_monitor(&node, &pod).await?;
    never_exited(&cri, &main, init, Duration::from_millis(200)).await?;
    tokio::time::timeout(SOON, stop).await.context("the stop hangs")???;
    ensure!(!alive(init));
    let status = cri.container(&main).await?;
    ensure!(status.exit_code == 5 || (!kernel_tells_exits()? && status.reason == "Unknown"), "{status:?}");
    ensure!(whole_lines(dir, &config)? == ["up", "asked"], "the signal was sent again");
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &Default::default())
}

/// Between the monitor's end and its replacement nobody watches: the container ends just then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ends_unwatched() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let sandbox = node.daemon.pod("victim");
    let pod = cri.run_pod(&sandbox).await?;
    let script = "trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done";
    let config = container("main", BUSYBOX, &["sh", "-c", script]);
    let main = cri.run(&pod, &config, &sandbox).await?;
    let init = pid(&cri, &main).await?;
    let daemon = i32::try_from(node.daemon.pid().context("no daemon")?)?;
    up(&sandbox, &config)?;
    kill("STOP", daemon)?;
    let ended = monitor(&node.daemon, &pod).and_then(|m| kill("KILL", m)).and_then(|()| kill("USR1", init));
    let ended = ended.and_then(|()| gone(init));
    kill("CONT", daemon)?;
    ended?;
    let status = cri.wait_exit(&main, SOON).await?;
    let known = (status.exit_code, status.reason.as_str()) == (9, "Error");
    let unknown = (status.exit_code, status.reason.as_str()) == (255, "Unknown");
    ensure!(known || (unknown && !kernel_tells_exits()?), "{status:?}");
    ensure!(status.finished_at > status.started_at);
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &Default::default())
}
