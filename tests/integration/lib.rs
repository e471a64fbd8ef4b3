//! What the privileged tests of the whole daemon share. The tests are in `tests/`, one program for each subject:
//! `lifecycle` (pods, containers, exec, logs, stats: what kubelets rely on), `faults` (kills, restarts, reboots,
//! retries), `hostile` (what images, registries and requests may try).

#![forbid(unsafe_code)]

use anyhow::Result;
use cricket_testkit::daemon::{Daemon, Options};
use cricket_testkit::image::suite;
use cricket_testkit::registry::Registry;

/// An image with a shell, pulled by [`Node::start`].
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.29-2";

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
}
