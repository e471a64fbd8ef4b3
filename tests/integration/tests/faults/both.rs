//! The daemon and a monitor are killed: what lives is taken up again, what has ended is told as far as it is known.

use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::host;

use crate::monitors::kill_monitor;
use crate::support::{Neighbour, SOON, alive, back_to, footprint, gone, kill, monitor, pid, ready, remove, up};

/// A pod and a container that writes nothing any more: nobody holds the other end of its pipes for a while.
struct Victim {
    sandbox: v1::PodSandboxConfig,
    pod: String,
    main: String,
    init: i32,
}

impl Victim {
    async fn start(node: &Node, cri: &Cri) -> Result<Self> {
        let sandbox = node.daemon.pod("victim");
        let pod = cri.run_pod(&sandbox).await?;
        let script = "trap 'exit 7' TERM; trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done";
        let config = container("main", BUSYBOX, &["sh", "-c", script]);
        let main = cri.run(&pod, &config, &sandbox).await?;
        let init = pid(cri, &main).await?;
        up(&sandbox, &config)?;
        Ok(Self { sandbox, pod, main, init })
    }

    fn kill_both(&self, node: &mut Node) -> Result<()> {
        let monitor = monitor(&node.daemon, &self.pod)?;
        node.daemon.kill()?;
        kill("KILL", monitor)?;
        gone(monitor)
    }

    /// The one line of the journal that counts.
    fn journal(&self, node: &Node) -> std::path::PathBuf {
        node.daemon.state().join("pods").join(&self.pod).join("journal")
    }
}

#[tokio::test]
async fn what_lives_is_taken_up_again() -> Result<()> {
    let mut node = Node::start().await?;
    let mut neighbour = Neighbour::start(&node.daemon).await?;
    let before = footprint(&node.daemon)?;
    let victim = Victim::start(&node, &node.daemon.cri().await?).await?;
    victim.kill_both(&mut node)?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    ensure!(pid(&cri, &victim.main).await? == victim.init);
    ready(&cri, &victim.pod).await?;
    ensure!(cri.exec_text(&victim.main, &["hostname"]).await? == "victim\n");
    // The pod takes containers, in the same namespaces.
    let second = cri.run(&victim.pod, &container("second", BUSYBOX, &["sleep", "600"]), &victim.sandbox).await?;
    let ipc = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/ipc"));
    ensure!(ipc(pid(&cri, &second).await?)? == ipc(victim.init)?);
    cri.stop(&victim.main, 10).await?;
    let status = cri.container(&victim.main).await?;
    ensure!(status.exit_code == 7 || status.reason == "Unknown", "{status:?}");
    ensure!(!alive(victim.init));
    cri.remove(&victim.main).await?;
    remove(&cri, &victim.pod).await?;
    back_to(&node.daemon, &before)?;
    neighbour.check(&node.daemon).await
}

#[tokio::test]
async fn an_exit_that_was_recorded_is_told() -> Result<()> {
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let victim = Victim::start(&node, &cri).await?;
    node.daemon.kill()?;
    // The monitor sees it, and then goes as well.
    kill("USR1", victim.init)?;
    gone(victim.init)?;
    let exit = node.daemon.state().join("pods").join(&victim.pod).join("c").join(&victim.main).join("exit.json");
    host::wait_for("the exit record", SOON, || Ok(exit.exists().then_some(())))?;
    let monitor = monitor(&node.daemon, &victim.pod)?;
    kill("KILL", monitor)?;
    gone(monitor)?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    let status = cri.wait_exit(&victim.main, SOON).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (9, "Error"), "{status:?}");
    remove(&cri, &victim.pod).await?;
    back_to(&node.daemon, &Default::default())
}

#[tokio::test]
async fn an_exit_that_nobody_saw_is_recovered_or_said_to_be_unknown() -> Result<()> {
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let victim = Victim::start(&node, &cri).await?;
    victim.kill_both(&mut node)?;
    kill("USR1", victim.init)?;
    gone(victim.init)?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    let status = cri.wait_exit(&victim.main, SOON).await?;
    // It is still there as a zombie where the host's init is slow.
    let told = (status.exit_code, status.reason.as_str());
    ensure!(told == (255, "Unknown") || told == (9, "Error"), "{status:?}");
    ensure!(status.finished_at >= status.started_at && status.started_at > 0, "{status:?}");
    remove(&cri, &victim.pod).await?;
    back_to(&node.daemon, &Default::default())
}

/// A process that has got the PID of a container is not the container.
#[tokio::test]
async fn a_reused_pid_is_left_alone() -> Result<()> {
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let victim = Victim::start(&node, &cri).await?;
    victim.kill_both(&mut node)?;
    kill("KILL", victim.init)?;
    gone(victim.init)?;
    let mut stranger = Stranger(Command::new("sleep").arg("600").spawn()?);
    let path = victim.journal(&node);
    let text = std::fs::read_to_string(&path)?;
    let changed = text.replace(&format!("\"pid\":{},", victim.init), &format!("\"pid\":{},", stranger.0.id()));
    ensure!(changed != text, "no PID in {text}");
    std::fs::write(&path, changed)?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    let status = cri.wait_exit(&victim.main, SOON).await?;
    ensure!((status.exit_code, status.reason.as_str()) == (255, "Unknown"), "{status:?}");
    cri.stop(&victim.main, 0).await?;
    cri.remove(&victim.main).await?;
    remove(&cri, &victim.pod).await?;
    ensure!(stranger.0.try_wait()?.is_none(), "a process of somebody else was killed");
    back_to(&node.daemon, &Default::default())
}

struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the record does not know is found by the cgroup, and does not outlive its container.
#[tokio::test]
async fn a_process_that_is_not_the_recorded_one_is_killed_through_the_cgroup() -> Result<()> {
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let victim = Victim::start(&node, &cri).await?;
    victim.kill_both(&mut node)?;
    let path = victim.journal(&node);
    let text = std::fs::read_to_string(&path)?;
    let at = text.rfind("\"start_ticks\":").context("no start time")?;
    let changed = format!("{}\"start_ticks\":1{}", &text[..at], &text[at + "\"start_ticks\":".len()..]);
    std::fs::write(&path, changed)?;
    node.daemon.launch()?;
    let cri = node.daemon.cri().await?;
    cri.wait_exit(&victim.main, SOON).await?;
    ensure!(!alive(victim.init), "EXITED while process {} lives", victim.init);
    remove(&cri, &victim.pod).await?;
    back_to(&node.daemon, &Default::default())
}

/// The init of a shared PID namespace has outlived its monitor, whose replacement has never heard of it.
#[tokio::test]
async fn one_after_the_other_under_a_pod_with_an_init() -> Result<()> {
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let shared = Some(v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() });
    let mut sandbox = node.daemon.pod("victim");
    let linux = sandbox.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options.clone_from(&shared);
    let config = |name: &str| {
        let mut config = container(name, BUSYBOX, &["sleep", "600"]);
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().namespace_options.clone_from(&shared);
        config
    };
    let pod = cri.run_pod(&sandbox).await?;
    let main = cri.run(&pod, &config("main"), &sandbox).await?;
    kill_monitor(&node, &pod).await?;
    // The new one has its container when it executes commands in it.
    ensure!(cri.exec_text(&main, &["echo", "here"]).await? == "here\n");
    node.daemon.kill_and_launch()?;
    let cri = node.daemon.cri().await?;
    ready(&cri, &pod).await?;
    let second = cri.run(&pod, &config("second"), &sandbox).await?;
    let pids = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    ensure!(pids(pid(&cri, &second).await?)? == pids(pid(&cri, &main).await?)?, "another PID namespace");
    remove(&cri, &pod).await?;
    back_to(&node.daemon, &Default::default())
}

/// The monitors of several pods at once, and the daemon in the middle of noticing.
#[tokio::test]
async fn all_monitors_and_then_the_daemon() -> Result<()> {
    let mut node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let mut victims = Vec::new();
    for _ in 0..4 {
        victims.push(Victim::start(&node, &cri).await?);
    }
    for victim in &victims {
        kill("KILL", monitor(&node.daemon, &victim.pod)?)?;
    }
    node.daemon.kill_and_launch()?;
    let cri = node.daemon.cri().await?;
    for victim in &victims {
        ensure!(pid(&cri, &victim.main).await? == victim.init);
        ensure!(cri.exec_text(&victim.main, &["echo", "here"]).await? == "here\n");
        ensure!(Path::new(&victim.sandbox.log_directory).is_dir());
        remove(&cri, &victim.pod).await?;
    }
    back_to(&node.daemon, &Default::default())
}
