//! What the privileged tests of the whole daemon share. The tests are in `tests/`, one program for each subject:
//! `lifecycle` (pods, containers, exec, logs, stats: what kubelets rely on), `faults` (kills, restarts, reboots,
//! retries), `hostile` (what images, registries and requests may try), `streaming` (exec, attach, port-forward).

#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::daemon::{Daemon, Options};
use cricket_testkit::host::tool_dir;
use cricket_testkit::image::{Image, ImageBuilder, Named, suite};
use cricket_testkit::registry::Registry;
use tokio::sync::Mutex;

/// An image with a shell, pulled by [`Node::start`].
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.29-2";

/// How long a container that ends by itself may take.
pub const SOON: Duration = Duration::from_secs(20);

/// A registry with the suite's busybox and a daemon that pulls from it.
pub struct Node {
    /// The daemon.
    pub daemon: Daemon,
    /// The registry behind every name.
    pub registry: Registry,
}

impl Node {
    /// Starts both and pulls [`BUSYBOX`].
    pub async fn start() -> Result<Self> {
        Self::with(Options::default()).await
    }

    /// The same with a daemon of these options; their registry is set here.
    pub async fn with(options: Options) -> Result<Self> {
        let registry = Registry::start()?;
        let busybox: Vec<_> = suite()?.into_iter().filter(|i| i.repository.ends_with("/busybox")).collect();
        registry.fill(&busybox).await?;
        let daemon = Daemon::with(Options { registry: Some(registry.url().to_owned()), ..options })?;
        daemon.cri().await?.pull(BUSYBOX).await?;
        Ok(Self { daemon, registry })
    }

    /// The daemon that the tests of a program share which need nothing special of it: it is started by the first that
    /// asks and ends with the last that holds it.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Node>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(node) = shared.upgrade() {
            return Ok(node);
        }
        let node = Arc::new(Self::start().await?);
        *shared = Arc::downgrade(&node);
        Ok(node)
    }

    /// Pushes and pulls an image on top of busybox; its name.
    pub async fn image(&self, repository: &str, change: impl FnOnce(ImageBuilder) -> ImageBuilder) -> Result<String> {
        let image = change(busybox()?).build()?;
        self.registry.fill(&[Named { repository: repository.to_owned(), tag: "1".into(), image }]).await?;
        let name = format!("registry.k8s.io/{repository}:1");
        self.daemon.cri().await?.pull(&name).await?;
        Ok(name)
    }
}

/// The table of a handler that is containerd's shim for runc, with this runc.
pub fn shim_table(name: &str, runc: &Path) -> Result<String> {
    let shim = tool_dir("containerd")?.join("containerd-shim-runc-v2");
    let table = format!("plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}");
    Ok(format!(
        "[{table}]\nruntime_type = 'io.containerd.runc.v2'\nruntime_path = {shim:?}\n[{table}.options]\nBinaryName = {runc:?}\n"
    ))
}

/// The suite's busybox, to add to.
pub fn busybox() -> Result<ImageBuilder> {
    let busybox = suite()?.into_iter().find(|i| BUSYBOX.contains(&i.repository)).context("no busybox")?;
    Ok(Image::of(busybox.image.layers))
}

/// A container that does nothing, and ends at once when it is asked to.
pub fn idle(name: &str, image: &str) -> v1::ContainerConfig {
    cri::container(name, image, &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"])
}

/// Standard output of a shell's script executed in a running container; it must succeed.
pub async fn sh(cri: &Cri, container: &str, script: &str) -> Result<String> {
    Ok(cri.exec_text(container, &["sh", "-c", script]).await?.trim_end().to_owned())
}
