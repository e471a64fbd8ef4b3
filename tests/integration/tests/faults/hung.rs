//! A network plugin or an OCI runtime hangs: only its pod, or only its container, waits, and not for ever.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::daemon::Options;
use cricket_testkit::{host, leaks};
use tonic::Code;

use crate::creates::Gate;
use crate::support::{SOON, back_to, footprint, kill, monitor, pod_ids, ready, remove, set};

/// What lists and statuses may take while others wait; the other tests of the program run meanwhile.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(50);

async fn limited(timeout: &str) -> Result<Node> {
    let tables = format!("[plugins.'io.cricket.v1']\ncni_plugin_timeout = '{timeout}'\n");
    Node::with(Options { tables, ..Options::default() }).await
}

/// The fastest of some rounds of every list and status; of more where the machine is busy.
pub(crate) async fn answers(cri: &Cri, pod: &str, container: &str) -> Result<Duration> {
    let (mut best, first, mut rounds) = (Duration::MAX, Instant::now(), 0);
    while rounds < 10 || (best >= AT_ONCE && first.elapsed() < Duration::from_secs(2)) {
        rounds += 1;
        let began = Instant::now();
        cri.pods().await?;
        cri.containers().await?;
        cri.pod(pod).await?;
        cri.container(container).await?;
        cri.runtime().status(v1::StatusRequest { verbose: false }).await?;
        best = best.min(began.elapsed());
    }
    Ok(best)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adding() -> Result<()> {
    let node = limited("2s").await?;
    let cri = node.daemon.cri().await?;
    let other = node.daemon.pod("other");
    let living = cri.run_pod(&other).await?;
    let main = cri.run(&living, &container("main", BUSYBOX, &["sleep", "600"]), &other).await?;
    let before = footprint(&node.daemon)?;
    let gate = Gate::install(&node).await?;
    gate.close()?;
    let sandbox = node.daemon.pod("hung");
    let began = Instant::now();
    let call = {
        let (cri, sandbox) = (cri.clone(), sandbox.clone());
        tokio::spawn(async move { cri.run_pod(&sandbox).await })
    };
    gate.reached(0)?;
    let took = answers(&cri, &living, &main).await?;
    ensure!(took < AT_ONCE, "five lists and statuses took {took:?}");
    ensure!(pod_ids(&cri).await? == set(&[&living]));
    ensure!(cri.exec_text(&main, &["echo", "hello"]).await? == "hello\n");

    let status = call.await?.err().context("a pod without a network")?;
    ensure!(began.elapsed() > Duration::from_secs(2) && began.elapsed() < SOON, "{:?}", began.elapsed());
    let text = status.message();
    ensure!(
        text.contains("network") && text.contains("gate") && text.contains("ADD"),
        "the stage is not named: {text}"
    );
    ensure!(matches!(status.code(), Code::DeadlineExceeded | Code::Internal | Code::Unavailable), "{status:?}");
    back_to(&node.daemon, &before)?;
    ensure!(!leaks::processes(node.daemon.mark())?.iter().any(|p| p.command.contains("plugins/gate")), "it still runs");

    gate.open()?;
    let id = cri.run_pod(&sandbox).await?;
    ready(&cri, &id).await?;
    remove(&cri, &id).await?;
    back_to(&node.daemon, &before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting() -> Result<()> {
    // Long enough for all that is done meanwhile, on a busy machine.
    let node = limited("8s").await?;
    let cri = node.daemon.cri().await?;
    let gate = Gate::install(&node).await?;
    let sandbox = node.daemon.pod("hung");
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    // The same plugin, now hanging at its DEL.
    let program = node.daemon.plugins().join("gate");
    let good = std::fs::read_to_string(&program)?;
    std::fs::write(&program, "#!/bin/sh\nsleep 77\n")?;
    let began = Instant::now();
    let stop = {
        let (cri, pod) = (cri.clone(), pod.clone());
        tokio::spawn(async move { cri.stop_pod(&pod).await })
    };
    host::wait_for("the plugin to hang", SOON, || {
        let hangs = |p: &leaks::Process| p.command == "sleep 77";
        Ok(leaks::processes(node.daemon.mark())?.iter().any(hangs).then_some(()))
    })?;
    let took = answers(&cri, &pod, &main).await?;
    ensure!(took < AT_ONCE, "five lists and statuses took {took:?}");
    ensure!(cri.container(&main).await?.exit_code == 137, "what runs in the pod does not wait for its network");
    // What is asked of the pod's containers is done, or refused, meanwhile.
    cri.stop(&main, 10).await?;
    cri.remove(&main).await?;
    let late = cri.create(&pod, &container("late", BUSYBOX, &["true"]), &sandbox).await;
    ensure!(late.is_err_and(|e| e.code() == Code::FailedPrecondition), "a pod that is being stopped takes a container");
    ensure!(!stop.is_finished(), "they waited for the pod's network");
    let status = stop.await?.err().context("the network is not torn down, and nobody says so")?;
    ensure!(began.elapsed() < SOON * 2, "{:?}", began.elapsed());
    ensure!(status.message().contains("DEL") && status.message().contains("gate"), "{status:?}");
    ensure!(cri.pod(&pod).await?.state() == v1::PodSandboxState::SandboxNotready);
    // Once it works again the pod can be stopped and removed.
    std::fs::write(&program, good)?;
    ensure!(gate.begun() == 1);
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &Default::default())
}

/// A node with an OCI runtime that hangs in `create` while a file is there, and in `delete` while another one is.
struct Slow {
    node: Node,
    gate: std::path::PathBuf,
    /// Its files; removed after the node, which needs the runtime till then.
    _dir: tempfile::TempDir,
}

impl Slow {
    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (gate, binary) = (dir.path().join("closed"), dir.path().join("runtime"));
        let runc = host::tool_dir("runc")?.join("runc");
        let script = format!(
            "#!/bin/sh\nfor a in \"$@\"; do\n  if [ \"$a\" = create ] && [ -e {gate} ]; then exec sleep 78; fi\n\
             \x20 if [ \"$a\" = delete ]; then\n    echo \"$@\" >> {deletes}\n\
             \x20   while [ -e {gate}.delete ]; do sleep 0.02; done\n  fi\ndone\nexec {runc} \"$@\"\n",
            deletes = dir.path().join("deletes").display(),
            gate = gate.display(),
            runc = runc.display()
        );
        std::fs::write(&binary, script)?;
        host::run("chmod", ["755", &binary.display().to_string()])?;
        let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.slow";
        let tables = format!(
            "[{table}]\nruntime_type = 'io.containerd.runc.v2'\n[{table}.options]\nBinaryName = {:?}\n",
            binary.display().to_string()
        );
        Ok(Self { node: Node::with(Options { tables, ..Options::default() }).await?, gate, _dir: dir })
    }

    /// Begins a start that hangs in the runtime.
    async fn hang(&self, cri: &Cri, id: &str) -> Result<tokio::task::JoinHandle<cricket_testkit::cri::Answer<()>>> {
        std::fs::write(&self.gate, "")?;
        let (cri, id) = (cri.clone(), id.to_owned());
        let start = tokio::spawn(async move { cri.start(&id).await.map(drop) });
        host::wait_for("the runtime to hang", SOON, || Ok(self.hangs()?.then_some(())))?;
        Ok(start)
    }

    /// How often the container was to be deleted.
    fn deletes(&self, id: &str) -> usize {
        let lines = std::fs::read_to_string(self.gate.with_file_name("deletes")).unwrap_or_default();
        lines.lines().filter(|line| line.contains(id)).count()
    }

    /// The runtime is killed with its launcher, a moment after that was given up.
    fn ended(&self) -> Result<()> {
        host::wait_for("the runtime to end", SOON, || Ok((!self.hangs()?).then_some(())))
    }

    fn hangs(&self) -> Result<bool> {
        Ok(leaks::processes(self.node.daemon.mark())?.iter().any(|p| p.command == "sleep 78"))
    }
}

/// While one container's start hangs, the pod's others are stopped, made, and told of; a stop of that one ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting() -> Result<()> {
    let slow = Slow::start().await?;
    let cri = slow.node.daemon.cri().await?;
    let sandbox = slow.node.daemon.pod("slow");
    let pod = cri.run_pod_with(&sandbox, "slow").await?;
    let deaf = container("deaf", BUSYBOX, &["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]);
    let deaf = cri.run(&pod, &deaf, &sandbox).await?;
    let brief = cri.run(&pod, &container("brief", BUSYBOX, &["sleep", "3"]), &sandbox).await?;
    let hung = cri.create(&pod, &container("hung", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    let start = slow.hang(&cri, &hung).await?;

    let began = Instant::now();
    cri.stop(&deaf, 1).await?;
    let took = began.elapsed();
    ensure!(took > Duration::from_millis(900) && took < SOON, "a grace period of 1 s took {took:?}");
    ensure!(cri.container(&deaf).await?.exit_code == 137);
    ensure!(cri.wait_exit(&brief, SOON).await?.exit_code == 0, "an exit waits for another container's start");
    cri.remove(&deaf).await?;
    let other = cri.create(&pod, &container("other", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    ensure!(cri.container(&hung).await?.state() == v1::ContainerState::ContainerCreated);
    ensure!(slow.hangs()? && !start.is_finished(), "it hung all the time");

    // Its own grace period is over: nothing of it runs any more, and both callers are told.
    let began = Instant::now();
    cri.stop(&hung, 1).await?;
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let status = start.await?.err().context("it was killed")?;
    ensure!(status.message().contains("killed while it was being started"), "{status:?}");
    let ended = cri.container(&hung).await?;
    ensure!(ended.state() == v1::ContainerState::ContainerExited && ended.reason == "StartError", "{ended:?}");
    slow.ended()?;
    std::fs::remove_file(&slow.gate)?;
    cri.start(&other).await?;
    ensure!(cri.exec_text(&other, &["echo", "hello"]).await? == "hello\n");

    // A removal by force, during a start.
    let hung = cri.create(&pod, &container("again", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    let start = slow.hang(&cri, &hung).await?;
    cri.remove(&hung).await?;
    ensure!(start.await?.is_err() && cri.container(&hung).await.is_err());
    std::fs::remove_file(&slow.gate)?;
    remove(&cri, &pod).await?;
    back_to(&slow.node.daemon, &Default::default())
}

/// While one container's removal hangs, the pod's others are stopped, made and started; whoever asks for it again joins
/// it, and the pod's own removal comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing() -> Result<()> {
    let slow = Slow::start().await?;
    let cri = slow.node.daemon.cri().await?;
    let sandbox = slow.node.daemon.pod("slow");
    let pod = cri.run_pod_with(&sandbox, "slow").await?;
    let deaf = container("deaf", BUSYBOX, &["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]);
    let deaf = cri.run(&pod, &deaf, &sandbox).await?;
    let hung = cri.run(&pod, &container("hung", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    cri.stop(&hung, 0).await?;
    let gate = slow.gate.with_extension("delete");
    std::fs::write(&gate, "")?;
    let before = slow.deletes(&hung);
    let remove = || {
        let (cri, hung) = (cri.clone(), hung.clone());
        tokio::spawn(async move { cri.remove(&hung).await })
    };
    let first = remove();
    host::wait_for("the runtime to hang", SOON, || Ok((slow.deletes(&hung) > before).then_some(())))?;
    let began = Instant::now();
    cri.stop(&deaf, 1).await?;
    let took = began.elapsed();
    ensure!(took > Duration::from_millis(900) && took < SOON, "a grace period of 1 s took {took:?}");
    let other = cri.run(&pod, &container("other", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    ensure!(cri.exec_text(&other, &["echo", "hello"]).await? == "hello\n");

    let second = remove();
    let whole = {
        let (cri, pod) = (cri.clone(), pod.clone());
        tokio::spawn(async move { cri.remove_pod(&pod).await })
    };
    host::wait_for("the pod's other containers to go", SOON, || Ok((slow.deletes(&other) > 0).then_some(())))?;
    ensure!(!first.is_finished() && !second.is_finished() && !whole.is_finished(), "a removal that hangs has ended");
    ensure!(slow.deletes(&hung) == before + 1, "the second removal did not join the first");
    std::fs::remove_file(&gate)?;
    first.await??;
    second.await??;
    whole.await??;
    ensure!(pod_ids(&cri).await?.is_empty());
    back_to(&slow.node.daemon, &Default::default())
}

/// The daemon is killed while a start hangs: the next one ends what the monitor still waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_when_the_daemon_ends() -> Result<()> {
    let mut slow = Slow::start().await?;
    let cri = slow.node.daemon.cri().await?;
    let sandbox = slow.node.daemon.pod("slow");
    let pod = cri.run_pod_with(&sandbox, "slow").await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    let hung = cri.create(&pod, &container("hung", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    let start = slow.hang(&cri, &hung).await?;
    slow.node.daemon.kill()?;
    ensure!(start.await?.is_err());
    ensure!(slow.hangs()?, "the launch goes on under the monitor");
    slow.node.daemon.launch()?;
    let cri = slow.node.daemon.cri().await?;
    let ended = cri.wait_exit(&hung, SOON).await?;
    ensure!(ended.reason == "StartError" && ended.exit_code == 128, "{ended:?}");
    slow.ended()?;
    ensure!(cri.exec_text(&main, &["echo", "hello"]).await? == "hello\n");
    cri.remove(&hung).await?;
    std::fs::remove_file(&slow.gate)?;
    remove(&cri, &pod).await?;
    back_to(&slow.node.daemon, &Default::default())
}

/// The monitor is killed while an OCI runtime hangs: its launcher ends with it, and the runtime with the launcher.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_when_the_monitor_ends() -> Result<()> {
    let slow = Slow::start().await?;
    let cri = slow.node.daemon.cri().await?;
    let sandbox = slow.node.daemon.pod("slow");
    let pod = cri.run_pod_with(&sandbox, "slow").await?;
    let main = cri.run(&pod, &container("main", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    let hung = cri.create(&pod, &container("hung", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    let start = slow.hang(&cri, &hung).await?;
    kill("KILL", monitor(&slow.node.daemon, &pod)?)?;
    let status = tokio::time::timeout(SOON, start).await.context("the start hangs")??;
    ensure!(status.is_err(), "{status:?}");
    let ended = cri.container(&hung).await?;
    ensure!(ended.state() == v1::ContainerState::ContainerExited && ended.reason == "StartError", "{ended:?}");
    slow.ended()?;
    std::fs::remove_file(&slow.gate)?;
    // The pod goes on under another monitor.
    ensure!(cri.exec_text(&main, &["echo", "hello"]).await? == "hello\n");
    let next = cri.run(&pod, &container("next", BUSYBOX, &["sleep", "600"]), &sandbox).await?;
    ensure!(cri.exec_text(&next, &["echo", "hello"]).await? == "hello\n");
    cri.remove(&hung).await?;
    remove(&cri, &pod).await?;
    back_to(&slow.node.daemon, &Default::default())
}
