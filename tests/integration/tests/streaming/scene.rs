//! A pod on a daemon that the tests share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node, SOON};
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::leaks;

/// What the descriptors of a daemon and of a monitor refer to.
#[derive(Debug)]
pub(crate) struct Descriptors {
    pub(crate) daemon: Vec<PathBuf>,
    pub(crate) monitor: Vec<PathBuf>,
}

/// A ready pod.
pub(crate) struct Scene {
    pub(crate) node: Arc<Node>,
    pub(crate) cri: Cri,
    pub(crate) pod: v1::PodSandboxConfig,
    pub(crate) id: String,
}

impl Scene {
    /// On the host's network.
    pub(crate) async fn host(name: &str) -> Result<Self> {
        let node = Node::shared().await?;
        let pod = cri::host_network(node.daemon.pod(name));
        Self::with(node, pod).await
    }

    /// On the host's network, on a daemon that nobody else uses: its descriptors can be counted.
    pub(crate) async fn alone(name: &str) -> Result<Self> {
        let node = Arc::new(Node::start().await?);
        let pod = cri::host_network(node.daemon.pod(name));
        Self::with(node, pod).await
    }

    /// With a network of its own.
    pub(crate) async fn networked(name: &str) -> Result<Self> {
        let node = Node::shared().await?;
        let pod = node.daemon.pod(name);
        Self::with(node, pod).await
    }

    async fn with(node: Arc<Node>, pod: v1::PodSandboxConfig) -> Result<Self> {
        let cri = node.daemon.cri().await?;
        let id = cri.run_pod(&pod).await?;
        Ok(Self { node, cri, pod, id })
    }

    pub(crate) async fn run(&self, config: &v1::ContainerConfig) -> Result<String> {
        Ok(self.cri.run(&self.id, config, &self.pod).await?)
    }

    pub(crate) async fn idle(&self) -> Result<String> {
        self.run(&shell("main", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done")).await
    }

    /// PIDs of the daemon's processes whose command line has this.
    pub(crate) fn processes(&self, what: &str) -> Result<Vec<i32>> {
        processes(&self.node, what)
    }

    /// Descriptors of the daemon and of this pod's monitor.
    pub(crate) fn descriptors(&self) -> Result<Descriptors> {
        let daemon = i32::try_from(self.node.daemon.pid().context("the daemon does not run")?)?;
        let of = |pid| leaks::descriptors(pid);
        Ok(Descriptors { daemon: of(daemon)?, monitor: of(monitor(&self.node, &self.id)?)? })
    }

    /// Waits until neither has more of them than it had.
    pub(crate) async fn no_more_than(&self, before: &Descriptors) -> Result<()> {
        let done = || {
            let now = self.descriptors()?;
            Ok(now.daemon.len() <= before.daemon.len() && now.monitor.len() <= before.monitor.len())
        };
        until("descriptors to be closed", done).await.with_context(|| match self.descriptors() {
            Ok(now) => format!("before: {before:#?}, now: {now:#?}"),
            Err(error) => format!("{error:#}"),
        })
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.cri.stop_pod(&self.id).await?;
        Ok(self.cri.remove_pod(&self.id).await?)
    }
}

/// PIDs of the daemon's processes whose command line has this.
pub(crate) fn processes(node: &Node, what: &str) -> Result<Vec<i32>> {
    let all = leaks::processes(node.daemon.mark())?;
    Ok(all.into_iter().filter(|process| process.command.contains(what)).map(|process| process.pid).collect())
}

/// PID of a pod's monitor.
pub(crate) fn monitor(node: &Node, pod: &str) -> Result<i32> {
    let found = processes(node, &format!("cricket-monitor {pod}"))?;
    found.first().copied().with_context(|| format!("pod {pod} has no monitor"))
}

/// A container that runs a script.
pub(crate) fn shell(name: &str, script: &str) -> v1::ContainerConfig {
    cri::container(name, BUSYBOX, &["sh", "-c", script])
}

/// Asks again until the answer is yes.
pub(crate) async fn until(what: &str, mut ask: impl FnMut() -> Result<bool>) -> Result<()> {
    let limit = tokio::time::Instant::now() + SOON;
    while !ask()? {
        if tokio::time::Instant::now() > limit {
            bail!("waited {SOON:?} for {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
