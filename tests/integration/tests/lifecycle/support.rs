//! A pod to try something in, on a daemon that the tests share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
pub(crate) use cricket_integration::{Node, SOON};
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::image::ImageBuilder;
use cricket_testkit::logs;

/// The daemon that tests share which need nothing special of it.
pub(crate) async fn node() -> Result<Arc<Node>> {
    Node::shared().await
}

/// A ready pod.
pub(crate) struct Scene {
    pub(crate) node: Arc<Node>,
    pub(crate) cri: Cri,
    pub(crate) pod: v1::PodSandboxConfig,
    pub(crate) id: String,
}

impl Scene {
    /// A pod on the host's network: the quickest there is.
    pub(crate) async fn host(name: &str) -> Result<Self> {
        let node = node().await?;
        let pod = cri::host_network(node.daemon.pod(name));
        Self::with(node, pod).await
    }

    /// A pod with a network of its own.
    pub(crate) async fn networked(name: &str) -> Result<Self> {
        let node = node().await?;
        let pod = node.daemon.pod(name);
        Self::with(node, pod).await
    }

    /// A pod on the host's network that may have privileged containers.
    pub(crate) async fn privileged(name: &str) -> Result<Self> {
        let node = node().await?;
        let mut pod = cri::host_network(node.daemon.pod(name));
        pod_security(&mut pod).privileged = true;
        Self::with(node, pod).await
    }

    /// A pod on the host's network of a daemon that nobody else uses.
    pub(crate) async fn with_own(node: Node, name: &str) -> Result<Self> {
        let pod = cri::host_network(node.daemon.pod(name));
        Self::with(Arc::new(node), pod).await
    }

    /// A pod of this configuration.
    pub(crate) async fn with(node: Arc<Node>, pod: v1::PodSandboxConfig) -> Result<Self> {
        let cri = node.daemon.cri().await?;
        let id = cri.run_pod(&pod).await?;
        Ok(Self { node, cri, pod, id })
    }

    /// Creates and starts.
    pub(crate) async fn run(&self, config: &v1::ContainerConfig) -> Result<String> {
        Ok(self.cri.run(&self.id, config, &self.pod).await?)
    }

    /// Starts a container that does nothing until it is asked to end, and waits until it can be: the first process of a
    /// PID namespace does not hear of signals that it does not handle yet.
    pub(crate) async fn idle(&self, name: &str) -> Result<String> {
        let id = self.run(&idle(name)).await?;
        let status = format!("/proc/{}/status", self.pid(&id).await?);
        until("the container to take its stop signal", || async {
            Ok(handles_term(&std::fs::read_to_string(&status)?))
        })
        .await?;
        Ok(id)
    }

    /// What a container that ends by itself, with code 0, writes to standard output.
    pub(crate) async fn output(&self, config: &v1::ContainerConfig) -> Result<Vec<String>> {
        let id = self.run(config).await?;
        let ended = self.cri.wait_exit(&id, SOON).await?;
        let records = self.node.daemon.logs(&self.pod, config)?;
        if ended.exit_code != 0 {
            bail!("exit code {}: {:?}", ended.exit_code, logs::lines(&records, "stderr"));
        }
        Ok(logs::lines(&records, "stdout"))
    }

    /// Standard output of a shell's script executed in a running container; it must succeed.
    pub(crate) async fn sh(&self, container: &str, script: &str) -> Result<String> {
        cricket_integration::sh(&self.cri, container, script).await
    }

    /// Process ID of a container's init on the host.
    pub(crate) async fn pid(&self, container: &str) -> Result<u32> {
        let info = self.verbose(container).await?;
        info["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("no pid in the container's info")
    }

    /// The verbose information of a container's status.
    pub(crate) async fn verbose(&self, container: &str) -> Result<serde_json::Value> {
        let request = v1::ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        let answer = self.cri.runtime().container_status(request).await?.into_inner();
        Ok(serde_json::from_str(answer.info.get("info").context("no key `info`")?)?)
    }

    /// Pushes and pulls an image on top of busybox; its name.
    pub(crate) async fn image(&self, name: &str, change: impl FnOnce(ImageBuilder) -> ImageBuilder) -> Result<String> {
        self.node.image(&format!("lifecycle/{name}"), change).await
    }

    /// The pod's log directory.
    pub(crate) fn logs(&self) -> PathBuf {
        PathBuf::from(&self.pod.log_directory)
    }

    /// Removes the pod.
    pub(crate) async fn end(self) -> Result<()> {
        self.cri.stop_pod(&self.id).await?;
        Ok(self.cri.remove_pod(&self.id).await?)
    }
}

/// Whether a process (proc_pid_status(5)) has a handler for SIGTERM.
fn handles_term(status: &str) -> bool {
    const TERM: u64 = 1 << 14;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & TERM != 0)
}

/// A container that runs a script.
pub(crate) fn shell(name: &str, script: &str) -> v1::ContainerConfig {
    cri::container(name, BUSYBOX, &["sh", "-c", script])
}

/// A container that does nothing, and ends at once when it is asked to.
pub(crate) fn idle(name: &str) -> v1::ContainerConfig {
    cricket_integration::idle(name, BUSYBOX)
}

/// The security context of a container, to be changed.
pub(crate) fn security(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// The security context of a pod, to be changed.
pub(crate) fn pod_security(config: &mut v1::PodSandboxConfig) -> &mut v1::LinuxSandboxSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// A bind mount that is neither read-only nor propagated.
pub(crate) fn mount(host: impl Into<PathBuf>, container: &str) -> v1::Mount {
    v1::Mount {
        host_path: host.into().display().to_string(),
        container_path: container.to_owned(),
        ..Default::default()
    }
}

/// Asks again until the answer is yes.
pub(crate) async fn until<F>(what: &str, mut ask: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let limit = tokio::time::Instant::now() + SOON;
    while !ask().await? {
        if tokio::time::Instant::now() > limit {
            bail!("waited {SOON:?} for {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
