//! A pod to try something in, on a daemon that the tests share; it ends with the last that holds it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
pub(crate) use cricket_integration::{SOON, busybox, idle};
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::image::ImageBuilder;

/// The daemon that the tests share which do not measure it.
pub(crate) async fn node() -> Result<Arc<Node>> {
    Node::shared().await
}

/// A ready pod on the host's network.
pub(crate) struct Scene {
    pub(crate) node: Arc<Node>,
    pub(crate) cri: Cri,
    pub(crate) pod: v1::PodSandboxConfig,
    pub(crate) id: String,
}

impl Scene {
    /// On the daemon that the tests share.
    pub(crate) async fn new(name: &str) -> Result<Self> {
        Self::on(node().await?, name).await
    }

    /// On this daemon.
    pub(crate) async fn on(node: Arc<Node>, name: &str) -> Result<Self> {
        let pod = cri::host_network(node.daemon.pod(name));
        Self::with(node, pod).await
    }

    /// With a pod of this configuration.
    pub(crate) async fn with(node: Arc<Node>, pod: v1::PodSandboxConfig) -> Result<Self> {
        let cri = node.daemon.cri().await?;
        let id = cri.run_pod(&pod).await?;
        Ok(Self { node, cri, pod, id })
    }

    /// The verbose information of a container's status.
    pub(crate) async fn info(&self, container: &str) -> Result<serde_json::Value> {
        let request = v1::ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        let answer = self.cri.runtime().container_status(request).await?.into_inner();
        Ok(serde_json::from_str(answer.info.get("info").context("no key `info`")?)?)
    }

    /// CreateContainer.
    pub(crate) async fn create(&self, config: &v1::ContainerConfig) -> Result<String, tonic::Status> {
        self.cri.create(&self.id, config, &self.pod).await
    }

    /// CreateContainer and StartContainer.
    pub(crate) async fn run(&self, config: &v1::ContainerConfig) -> Result<String, tonic::Status> {
        self.cri.run(&self.id, config, &self.pod).await
    }

    /// A container that does nothing.
    pub(crate) async fn idle(&self, name: &str) -> Result<String> {
        Ok(self.run(&idle(name, BUSYBOX)).await?)
    }

    /// Standard output of a script that must succeed.
    pub(crate) async fn sh(&self, container: &str, script: &str) -> Result<String> {
        cricket_integration::sh(&self.cri, container, script).await
    }

    /// Pushes and pulls an image on top of busybox; its name.
    pub(crate) async fn image(&self, name: &str, change: impl FnOnce(ImageBuilder) -> ImageBuilder) -> Result<String> {
        self.node.image(&format!("hostile/{name}"), change).await
    }

    /// Removes the pod; the daemon has not panicked meanwhile.
    pub(crate) async fn end(self) -> Result<()> {
        self.cri.stop_pod(&self.id).await?;
        self.cri.remove_pod(&self.id).await?;
        assert_unharmed(&self.node).await
    }
}

/// The daemon answers and has not panicked.
pub(crate) async fn assert_unharmed(node: &Node) -> Result<()> {
    let cri = node.daemon.cri().await?;
    cri.runtime().version(v1::VersionRequest::default()).await?;
    let log = node.daemon.log();
    let panic = log.lines().find(|line| line.contains("panicked"));
    assert_eq!(panic, None, "the daemon's log has a panic");
    Ok(())
}
