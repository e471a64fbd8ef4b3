//! Pods that an older daemon made, with its monitors.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node, SOON};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::daemon::{Options, Program};
use cricket_testkit::{host, leaks, logs};
use serde_json::Value;

/// Counts in its log, and ends with 7 when it is asked to.
const COUNTER: &str = "trap 'exit 7' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";

/// A pod with a network and one whose containers share a PID namespace.
pub(crate) struct Old {
    pub(crate) node: Node,
    pub(crate) cri: Cri,
    pub(crate) sandbox: v1::PodSandboxConfig,
    pub(crate) id: String,
    pub(crate) config: v1::ContainerConfig,
    /// Counts.
    pub(crate) main: String,
    /// Reads what one client gives it, and ends with 6 after that.
    pub(crate) reader: String,
    /// In the other pod.
    pub(crate) sharing: [String; 2],
}

impl Old {
    /// Under a daemon of the older version.
    pub(crate) async fn start(name: &str) -> Result<Self> {
        let program = Program::At(host::previous()?.join("cricket"));
        let node = Node::with(Options { program, ..Options::default() }).await?;
        let cri = node.daemon.cri().await?;
        let sandbox = node.daemon.pod(name);
        let id = cri.run_pod(&sandbox).await?;
        let config = container("main", BUSYBOX, &["sh", "-c", COUNTER]);
        let main = cri.run(&id, &config, &sandbox).await?;
        let script = "while read line; do echo got $line; done; exit 6";
        let reader = container("reader", BUSYBOX, &["sh", "-c", script]);
        let reader = v1::ContainerConfig { stdin: true, stdin_once: true, ..reader };
        let reader = cri.run(&id, &reader, &sandbox).await?;

        let mut both = node.daemon.pod("sharing");
        let linux = both.linux.get_or_insert_default().security_context.get_or_insert_default();
        linux.namespace_options.get_or_insert_default().set_pid(v1::NamespaceMode::Pod);
        let other = cri.run_pod(&both).await?;
        let mut sharing = Vec::new();
        for number in ["4741", "4742"] {
            let mut config = container(number, BUSYBOX, &["sleep", number]);
            let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
            context.namespace_options.get_or_insert_default().set_pid(v1::NamespaceMode::Pod);
            sharing.push(cri.run(&other, &config, &both).await?);
        }
        let sharing = sharing.try_into().ok().context("not two containers")?;
        Ok(Self { node, cri, sandbox, id, config, main, reader, sharing })
    }

    /// The daemon ends, and one of this version starts in its place. The monitors are those of the older one.
    pub(crate) async fn upgrade(&mut self) -> Result<()> {
        let old = program(monitor(&self.id)?)?;
        self.node.daemon.stop()?;
        self.launch_new().await?;
        ensure!(program(monitor(&self.id)?)? == old, "the monitor was replaced");
        Ok(())
    }

    /// Starts a daemon of this version.
    pub(crate) async fn launch_new(&mut self) -> Result<()> {
        self.node.daemon.options().program = Program::Cricket;
        self.node.daemon.launch()?;
        self.cri = self.node.daemon.cri().await?;
        Ok(())
    }

    /// Lines in the counter's log; they count from where they began, one by one.
    pub(crate) fn lines(&self) -> Result<usize> {
        let mut bytes = std::fs::read(Path::new(&self.sandbox.log_directory).join(&self.config.log_path))?;
        bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
        let lines = logs::lines(&logs::parse(&bytes)?, "stdout");
        let numbers = lines.iter().map(|line| Ok(line.parse::<usize>()?)).collect::<Result<Vec<_>>>()?;
        ensure!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{lines:?}");
        Ok(lines.len())
    }

    /// Removes both pods; nothing of them may stay.
    pub(crate) async fn end(self) -> Result<()> {
        self.cri.remove_all_pods().await?;
        self.node.daemon.assert_no_leaks(SOON)?;
        // Nothing that the older version left keeps the newer one from another start.
        let mut node = self.node;
        node.daemon.kill_and_launch()?;
        let cri = node.daemon.cri().await?;
        ensure!(cri.pods().await?.is_empty() && cri.containers().await?.is_empty());
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.daemon.assert_no_leaks(SOON)
    }
}

/// PID of a pod's monitor.
pub(crate) fn monitor(pod: &str) -> Result<i32> {
    let name = format!("cricket-monitor {pod}");
    let all = leaks::processes(pod)?;
    let found = all.iter().find(|process| process.command.contains(&name));
    Ok(found.with_context(|| format!("pod {pod} has no monitor"))?.pid)
}

/// What a process executes.
fn program(pid: i32) -> Result<Vec<u8>> {
    Ok(std::fs::read(format!("/proc/{pid}/exe"))?)
}

/// Host PID of a container's init.
pub(crate) async fn pid(cri: &Cri, id: &str) -> Result<i32> {
    let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let answer = cri.runtime().container_status(request).await?.into_inner();
    let info: Value = serde_json::from_str(answer.info.get("info").context("no info")?)?;
    Ok(i32::try_from(info["pid"].as_i64().context("no pid")?)?)
}
