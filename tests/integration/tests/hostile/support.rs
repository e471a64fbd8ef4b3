//! A pod to try something in, on a daemon that the tests share; it ends with the last that holds it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::image::{Image, ImageBuilder, Named, suite};
use tokio::sync::Mutex;

/// How long a container that ends by itself may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The daemon that tests share which do not measure it.
pub(crate) async fn node() -> Result<Arc<Node>> {
    static SHARED: Mutex<Weak<Node>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(node) = shared.upgrade() {
        return Ok(node);
    }
    let node = Arc::new(Node::start().await?);
    *shared = Arc::downgrade(&node);
    Ok(node)
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
        let cri = node.daemon.cri().await?;
        let pod = cri::host_network(node.daemon.pod(name));
        let id = cri.run_pod(&pod).await?;
        Ok(Self { node, cri, pod, id })
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
        Ok(self.cri.exec_text(container, &["sh", "-c", script]).await?.trim_end().to_owned())
    }

    /// Pushes and pulls an image on top of busybox; its name.
    pub(crate) async fn image(&self, name: &str, change: impl FnOnce(ImageBuilder) -> ImageBuilder) -> Result<String> {
        let image = change(busybox()?).build()?;
        let repository = format!("hostile/{name}");
        self.node.registry.fill(&[Named { repository: repository.clone(), tag: "1".into(), image }]).await?;
        let name = format!("registry.k8s.io/{repository}:1");
        self.cri.pull(&name).await?;
        Ok(name)
    }

    /// Removes the pod; the daemon has not panicked meanwhile.
    pub(crate) async fn end(self) -> Result<()> {
        self.cri.stop_pod(&self.id).await?;
        self.cri.remove_pod(&self.id).await?;
        assert_unharmed(&self.node).await
    }
}

/// The suite's busybox, to add to.
pub(crate) fn busybox() -> Result<ImageBuilder> {
    let busybox = suite()?.into_iter().find(|i| BUSYBOX.contains(&i.repository)).context("no busybox")?;
    Ok(Image::of(busybox.image.layers))
}

/// A container that does nothing until it is killed.
pub(crate) fn idle(name: &str, image: &str) -> v1::ContainerConfig {
    cri::container(name, image, &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"])
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
