//! The monitors of an older version under this daemon: pods do not end for an upgrade, so their monitors stay what they
//! were while everything else is new. `hack/previous` builds the older version.

// Not every helper of the streaming tests is needed here.
#[allow(dead_code)]
#[path = "../streaming/client.rs"]
mod client;
mod pods;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, SOON, sh};
use cricket_testkit::cri::{self, container};
use cricket_testkit::{host, leaks, logs};
use tonic::Code;

use client::{STDOUT, Session, in_terminal, order};
use pods::{Old, monitor, pid};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_goes_on_as_it_was() -> Result<()> {
    let mut old = Old::start("goes-on").await?;
    let before = (old.cri.pods().await?, old.cri.containers().await?);
    let (init, guard) = (pid(&old.cri, &old.main).await?, monitor(&old.id)?);
    old.upgrade().await?;
    ensure!((old.cri.pods().await?, old.cri.containers().await?) == before, "the upgrade changed what lists show");
    ensure!(pid(&old.cri, &old.main).await? == init && monitor(&old.id)? == guard);
    let lines = old.lines()?;
    host::wait_for("the log to go on", SOON, || Ok((old.lines()? > lines + 3).then_some(())))?;
    // A rotated log: the monitor opens the new file.
    let path = Path::new(&old.sandbox.log_directory).join(&old.config.log_path);
    std::fs::rename(&path, path.with_extension("log.1"))?;
    let request = v1::ReopenContainerLogRequest { container_id: old.main.clone() };
    old.cri.runtime().reopen_container_log(request).await?;
    host::wait_for("the new log", SOON, || Ok((path.exists() && old.lines()? > 3).then_some(())))?;
    let first = logs::lines(&logs::read(&path.with_extension("log.1"))?, "stdout");
    let next = std::fs::read_to_string(&path)?;
    let next = next.lines().next().and_then(|line| line.rsplit(' ').next()).context("an empty log")?;
    ensure!(next == first.len().to_string(), "{next} after {} lines", first.len());
    // Its exit code, and what it was asked to end with.
    old.cri.stop(&old.main, 20).await?;
    let status = old.cri.container(&old.main).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (7, "Error"), "{status:?}");
    old.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_in_it() -> Result<()> {
    let mut old = Old::start("commands").await?;
    old.upgrade().await?;
    let cri = &old.cri;
    let answer = cri.exec(&old.main, &["sh", "-c", "echo out; echo err >&2; exit 3"], 10).await?;
    ensure!((answer.exit_code, &*answer.stdout, &*answer.stderr) == (3, b"out\n", b"err\n"), "{answer:?}");
    let answer = cri.exec(&old.main, &["sh", "-c", "seq 1 100000"], 30).await?;
    ensure!(answer.stdout.len() == 588_895, "{} bytes", answer.stdout.len());
    let late = cri.exec(&old.main, &["sleep", "4731"], 1).await;
    ensure!(late.as_ref().is_err_and(|status| status.code() == Code::DeadlineExceeded), "{late:?}");
    host::wait_for("the late command to be killed", SOON, || {
        Ok((!leaks::processes(&old.main)?.iter().any(|p| p.command == "sleep 4731")).then_some(()))
    })?;
    let mut session = Session::exec(cri, order(&old.main, "cat; exit 9")).await?;
    session.write("streamed").await?;
    session.close_stdin().await?;
    let outcome = session.finish().await?;
    ensure!(outcome.stdout == "streamed" && outcome.code()? == 9, "{outcome:?}");
    let mut terminal = Session::exec(
        cri,
        in_terminal(&old.main, "trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.05; done"),
    )
    .await?;
    terminal.expect(STDOUT, "up").await?;
    terminal.resize(101, 17).await?;
    terminal.expect(STDOUT, "17 101").await?;
    ensure!(terminal.finish().await?.code()? == 0);
    // The sharing pod's processes see each other, and its init is the old one.
    ensure!(sh(cri, &old.sharing[0], "cat /proc/1/comm").await? == "cricket-init");
    ensure!(sh(cri, &old.sharing[0], "pgrep -f '^sleep 4742$' | wc -l").await? == "1");
    old.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_made_and_measured_and_limited() -> Result<()> {
    let mut old = Old::start("made").await?;
    let created = old
        .cri
        .create(&old.id, &container("created", BUSYBOX, &["sh", "-c", "echo mine; exit 6"]), &old.sandbox)
        .await?;
    old.upgrade().await?;
    let cri = old.cri.clone();
    // Created by the old daemon, started by the new one.
    cri.start(&created).await?;
    ensure!(cri.wait_exit(&created, SOON).await?.exit_code == 6);
    // All of it by the new one, with a limit that it runs into.
    let script = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x | wc -c";
    let mut config = container("greedy", BUSYBOX, &["sh", "-c", script]);
    let limit = v1::LinuxContainerResources { memory_limit_in_bytes: 32 << 20, ..Default::default() };
    config.linux.get_or_insert_default().resources = Some(limit);
    let greedy = cri.run(&old.id, &config, &old.sandbox).await?;
    // An emulated processor needs its time to fill it.
    let status = cri.wait_exit(&greedy, 6 * SOON).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (137, "OOMKilled"), "{status:?}");
    let config = cricket_integration::idle("new", BUSYBOX);
    let new = cri.run(&old.id, &config, &old.sandbox).await?;
    ensure!(sh(&cri, &new, "hostname").await? == "made");
    let request = v1::ContainerStatsRequest { container_id: old.main.clone() };
    let stats = cri.runtime().container_stats(request).await?.into_inner().stats.context("no stats")?;
    let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds).map_or(0, |used| used.value);
    let memory = stats.memory.and_then(|memory| memory.working_set_bytes).map_or(0, |set| set.value);
    ensure!(cpu > 0 && memory > 0, "{cpu} ns, {memory} bytes");
    let request = v1::PodSandboxStatsRequest { pod_sandbox_id: old.id.clone() };
    let stats = cri.runtime().pod_sandbox_stats(request).await?.into_inner().stats.context("no stats")?;
    let containers = stats.linux.context("no statistics of Linux")?.containers;
    ensure!(containers.len() == 3, "{} containers run", containers.len());
    let linux = v1::LinuxContainerResources { cpu_shares: 512, ..Default::default() };
    let request = v1::UpdateContainerResourcesRequest {
        container_id: old.main.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    cri.runtime().update_container_resources(request).await?;
    let resources = cri.container(&old.main).await?.resources.and_then(|r| r.linux).context("no resources")?;
    ensure!(resources.cpu_shares == 512, "{resources:?}");
    cri.remove(&new).await?;
    old.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_cannot_do_is_said_and_a_new_monitor_can() -> Result<()> {
    let mut old = Old::start("attach").await?;
    old.upgrade().await?;
    let attach =
        v1::AttachRequest { container_id: old.reader.clone(), stdin: true, stdout: true, stderr: true, tty: false };
    let refusal = match Session::attach(&old.cri, attach.clone()).await {
        Ok(mut session) => session.finish().await?.status.to_string(),
        Err(error) => format!("{error:#}"),
    };
    ensure!(refusal.contains("the pod's monitor is of an earlier version and does not know attach"), "{refusal}");
    ensure!(old.cri.container(&old.reader).await?.state() == v1::ContainerState::ContainerRunning);
    // Its successor is of this version: it takes over what runs, and then it works.
    let (guard, init) = (monitor(&old.id)?, pid(&old.cri, &old.reader).await?);
    host::run("kill", ["-9", &guard.to_string()])?;
    host::wait_for("another monitor", SOON, || Ok(monitor(&old.id).ok().filter(|new| *new != guard).map(drop)))?;
    let end = tokio::time::Instant::now() + SOON;
    let mut session = loop {
        match Session::attach(&old.cri, attach.clone()).await {
            Ok(session) => break session,
            Err(error) if tokio::time::Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    // The refused session has not taken the input of one client with it.
    session.write("one\n").await?;
    session.expect(STDOUT, "got one\n").await?;
    ensure!(pid(&old.cri, &old.reader).await? == init);
    drop(session);
    // The client's end is the input's. The successor is not the parent: older kernels do not tell it the exit code.
    let status = old.cri.wait_exit(&old.reader, SOON).await?;
    let unknown = (status.exit_code, status.reason.as_str()) == (255, "Unknown");
    ensure!(status.exit_code == 6 || (unknown && !kernel_tells_exits()?), "{status:?}");
    old.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_while_no_daemon_runs_is_known() -> Result<()> {
    let mut old = Old::start("ends").await?;
    let init = pid(&old.cri, &old.main).await?;
    old.node.daemon.stop()?;
    host::run("kill", ["-TERM", &init.to_string()])?;
    host::wait_for("the container to end", SOON, || Ok((!Path::new(&format!("/proc/{init}")).exists()).then_some(())))?;
    old.launch_new().await?;
    let status = old.cri.container(&old.main).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (7, "Error"), "{status:?}");
    // Killed and started once more.
    old.node.daemon.kill_and_launch()?;
    old.cri = old.node.daemon.cri().await?;
    ensure!(old.cri.container(&old.main).await?.exit_code == 7);
    let other = old.cri.run_pod(&cri::host_network(old.node.daemon.pod("other"))).await?;
    old.cri.remove_pod(&other).await?;
    old.end().await
}

/// From Linux 6.15 on a pidfd tells the exit status of a process that somebody else has reaped.
fn kernel_tells_exits() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    Ok((numbers.next(), numbers.next()) >= (Some(6), Some(15)))
}
