//! A daemon that dies where it is told to, and a neighbour that must not notice.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::cri::{Answer, Cri, container};
use cricket_testkit::daemon::Daemon;
use cricket_testkit::{host, leaks, logs};
use serde_json::Value;

/// How long what happens in the background may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Restarts the daemon so that it dies at `point`, makes a call that gets there, and starts it again.
pub(crate) async fn die_at<T: std::fmt::Debug>(
    daemon: &mut Daemon,
    point: &str,
    call: impl AsyncFnOnce(Cri) -> Answer<T>,
) -> Result<Cri> {
    daemon.stop()?;
    daemon.options().env.push(("CRICKET_FAULT".to_owned(), point.to_owned()));
    daemon.launch()?;
    let answer = call(daemon.cri().await?).await;
    let status = daemon.wait(SOON).with_context(|| format!("{point} was not reached: {answer:?}"))?;
    ensure!(status.to_string().contains("signal: 9"), "{point}: {status}");
    daemon.options().env.pop();
    daemon.launch()?;
    daemon.cri().await
}

/// Restarts the daemon so that it stands still at `point`, makes a call that gets there, does something `meanwhile`, and
/// lets the daemon go on.
pub(crate) async fn halt_at<T>(
    daemon: &mut Daemon,
    point: &str,
    call: impl AsyncFnOnce(Cri) -> Answer<T>,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<Answer<T>> {
    daemon.stop()?;
    daemon.options().env.push(("CRICKET_FAULT".to_owned(), format!("halt:{point}")));
    let launched = daemon.launch();
    daemon.options().env.pop();
    launched?;
    let (cri, pid) = (daemon.cri().await?, daemon.pid().context("no daemon")?);
    let halted = async {
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let deadline = tokio::time::Instant::now() + SOON;
        while !state().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
            ensure!(tokio::time::Instant::now() < deadline, "{point} was not reached");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let done = meanwhile();
        kill("CONT", i32::try_from(pid)?)?;
        done
    };
    let (answer, halted) = tokio::join!(tokio::time::timeout(SOON * 2, call(cri)), halted);
    halted?;
    answer.with_context(|| format!("a call hangs after {point}"))
}

/// A pod whose container counts in its log.
pub(crate) struct Neighbour {
    pub(crate) sandbox: v1::PodSandboxConfig,
    pub(crate) config: v1::ContainerConfig,
    pub(crate) pod: String,
    pub(crate) container: String,
    pid: i32,
    seen: usize,
}

impl Neighbour {
    pub(crate) async fn start(daemon: &Daemon) -> Result<Self> {
        let cri = daemon.cri().await?;
        let sandbox = daemon.pod("neighbour");
        let pod = cri.run_pod(&sandbox).await?;
        let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
        let config = container("counter", BUSYBOX, &["sh", "-c", script]);
        let container = cri.run(&pod, &config, &sandbox).await?;
        let pid = pid(&cri, &container).await?;
        Ok(Self { sandbox, config, pod, container, pid, seen: 0 })
    }

    /// The same process runs, and its log has every number up to one that is higher than at the last look.
    pub(crate) async fn check(&mut self, daemon: &Daemon) -> Result<()> {
        let cri = daemon.cri().await?;
        ensure!(pid(&cri, &self.container).await? == self.pid, "the neighbour has another process");
        self.seen = host::wait_for("the neighbour's log to go on", SOON, || {
            let lines = whole_lines(Path::new(&self.sandbox.log_directory), &self.config)?;
            for (n, line) in lines.iter().enumerate() {
                ensure!(line == &n.to_string(), "line {n} of the neighbour's log is {line:?}");
            }
            Ok((lines.len() > self.seen + 2).then_some(lines.len()))
        })?;
        Ok(())
    }
}

/// Lines of standard output up to the last newline: a daemon may be writing.
pub(crate) fn whole_lines(dir: &Path, config: &v1::ContainerConfig) -> Result<Vec<String>> {
    let mut bytes = std::fs::read(dir.join(&config.log_path))?;
    bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
    Ok(logs::lines(&logs::parse(&bytes)?, "stdout"))
}

/// Waits until a container has said "up": its traps are set.
pub(crate) fn up(sandbox: &v1::PodSandboxConfig, config: &v1::ContainerConfig) -> Result<()> {
    let log = || whole_lines(Path::new(&sandbox.log_directory), config).unwrap_or_default();
    host::wait_for("the container to be up", SOON, || Ok(log().first().is_some_and(|l| l == "up").then_some(())))
}

/// Host PID of a container's init.
pub(crate) async fn pid(cri: &Cri, id: &str) -> Result<i32> {
    let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let answer = cri.runtime().container_status(request).await?.into_inner();
    let state = answer.status.context("no status")?.state();
    ensure!(state == v1::ContainerState::ContainerRunning, "container {id} is {state:?}");
    let info: Value = serde_json::from_str(answer.info.get("info").context("no info")?)?;
    Ok(i32::try_from(info["pid"].as_i64().context("no pid")?)?)
}

/// What the daemon has on the host, without what changes by itself: the counter's sleeps, logs of monitors.
pub(crate) fn footprint(daemon: &Daemon) -> Result<BTreeSet<String>> {
    let mut all: BTreeSet<String> = daemon.leaks()?.into_iter().collect();
    // A fork of the counter has its command line, until it is the sleep.
    all.retain(|line| !line.contains("sleep 0.02") && !line.contains("[sleep]") && !line.contains("[sh]"));
    Ok(all)
}

/// Waits until there is nothing that was not there before.
pub(crate) fn back_to(daemon: &Daemon, before: &BTreeSet<String>) -> Result<()> {
    let mut more = Vec::new();
    let back = host::wait_for("leftovers to go", SOON, || {
        more = footprint(daemon)?.difference(before).cloned().collect();
        Ok(more.is_empty().then_some(()))
    });
    back.with_context(|| more.join("\n"))
}

/// Names in the lists.
pub(crate) async fn pod_ids(cri: &Cri) -> Result<BTreeSet<String>> {
    Ok(cri.pods().await?.into_iter().map(|p| p.id).collect())
}

pub(crate) async fn container_ids(cri: &Cri) -> Result<BTreeSet<String>> {
    Ok(cri.containers().await?.into_iter().map(|c| c.id).collect())
}

pub(crate) fn set(ids: &[&String]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).clone()).collect()
}

/// A pod that is ready has an address.
pub(crate) async fn ready(cri: &Cri, id: &str) -> Result<()> {
    let status = cri.pod(id).await?;
    ensure!(status.state() == v1::PodSandboxState::SandboxReady, "pod {id} is {:?}", status.state());
    ensure!(!status.network.unwrap_or_default().ip.is_empty(), "pod {id} has no address");
    Ok(())
}

/// PID of a pod's monitor.
pub(crate) fn monitor(daemon: &Daemon, pod: &str) -> Result<i32> {
    let mark = format!("cricket-monitor {pod}");
    let found = leaks::processes(daemon.mark())?.into_iter().find(|p| p.command == mark);
    Ok(found.with_context(|| format!("no process {mark:?}"))?.pid)
}

/// `kill -SIGNAL PID`.
pub(crate) fn kill(signal: &str, pid: i32) -> Result<()> {
    host::run("kill", [&format!("-{signal}"), &pid.to_string()]).map(drop)
}

/// Whether the process is there and not a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Waits for the end of a process.
pub(crate) fn gone(pid: i32) -> Result<()> {
    host::wait_for(&format!("process {pid} to end"), SOON, || Ok((!alive(pid)).then_some(())))
}

/// Stops and removes a pod.
pub(crate) async fn remove(cri: &Cri, pod: &str) -> Result<()> {
    cri.stop_pod(pod).await?;
    cri.remove_pod(pod).await?;
    Ok(())
}

/// Fails unless the answer is an error of this code whose message has the text.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Answer<T>, code: tonic::Code, text: &str) -> Result<()> {
    match answer {
        Err(status) if status.code() == code && status.message().contains(text) => Ok(()),
        other => bail!("expected {code:?} with {text:?}, got {other:?}"),
    }
}
