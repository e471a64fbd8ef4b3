//! The whole node.

use crate::{Kubelet, KubeletOptions, handlers};
use anyhow::{Result, bail};
use cricket_testkit::cri::Cri;
use cricket_testkit::daemon::{self, Daemon, Program};
use cricket_testkit::image;
use cricket_testkit::registry::{self, Registry};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The image that every node's registry has: busybox.
pub const IMAGE: &str = "docker.io/library/busybox:latest";

/// What a node consists of.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The runtime.
    pub program: Program,
    /// Serve every image of the suites, not only [`IMAGE`].
    pub all_images: bool,
    /// A directory with images that a registry has kept there ([`registry::Options::data`]), in place of those that
    /// would be made.
    pub images: Option<PathBuf>,
    /// Configure every one of the [`handlers`], not only the built-in one.
    pub all_handlers: bool,
    /// The handler of pods that name none; empty: the built-in one.
    pub default_handler: String,
    /// Have cricket answer cAdvisor, as containerd does anyway.
    pub cadvisor: bool,
    /// The kubelet.
    pub kubelet: KubeletOptions,
}

impl Options {
    /// The names of the handlers that there will be.
    pub fn handlers(&self) -> Vec<&'static str> {
        match self.program {
            Program::Containerd => vec!["runc"],
            _ if self.all_handlers => handlers::names(),
            _ => vec![handlers::BUILT_IN],
        }
    }
}

/// Registry, network, runtime and kubelet.
pub struct Node {
    // Dropped in this order: the kubelet would start again what the runtime's end removes.
    /// The kubelet.
    pub kubelet: Kubelet,
    /// The runtime, with its network.
    pub daemon: Daemon,
    /// The registry that public registries' names lead to.
    pub registry: Registry,
    /// Tell, when it is dropped, what went on.
    report: bool,
}

impl Node {
    /// A node for a test: with cricket, or with containerd where
    /// `CRICKET_TEST_PEER` is `1`, which shows that the test itself is right.
    pub async fn start() -> Result<Self> {
        let program = if peer() { Program::Containerd } else { Program::Cricket };
        let mut node = Self::with(Options { program, ..Options::default() }).await?;
        node.report = true;
        Ok(node)
    }

    /// A node.
    pub async fn with(options: Options) -> Result<Self> {
        let (registry, daemon) = Self::parts(&options)?;
        Self::fill(&registry, &options).await?;
        Self::of(registry, daemon, &options.kubelet).await
    }

    /// An empty registry and a runtime that pulls from it.
    pub(crate) fn parts(options: &Options) -> Result<(Registry, Daemon)> {
        let registry = Registry::with(registry::Options { data: options.images.clone(), ..Default::default() })?;
        let mut daemon = daemon::Options {
            program: options.program.clone(),
            registry: Some(registry.url().to_owned()),
            cadvisor: options.cadvisor,
            ..Default::default()
        };
        if options.program != Program::Containerd {
            if options.all_handlers {
                daemon.tables = handlers::tables()?;
            }
            if !options.default_handler.is_empty() {
                daemon.own_keys = format!("default_handler = {:?}\n", options.default_handler);
            }
        }
        Ok((registry, Daemon::with(daemon)?))
    }

    /// Gives the registry its images, unless it has them.
    pub(crate) async fn fill(registry: &Registry, options: &Options) -> Result<()> {
        if options.images.is_some() {
            return Ok(());
        }
        let mut images = image::suite()?;
        images.retain(|named| options.all_images || matches!(named.repository.as_str(), "library/busybox" | "pause"));
        registry.fill(&images).await
    }

    /// A node of its parts.
    pub(crate) async fn of(registry: Registry, daemon: Daemon, options: &KubeletOptions) -> Result<Self> {
        let kubelet = Kubelet::start(&daemon, options).await?;
        Ok(Self { kubelet, daemon, registry, report: false })
    }

    /// A CRI client.
    pub async fn cri(&self) -> Result<Cri> {
        self.daemon.cri().await
    }

    /// A path for a volume that the test and its pods share. It is not there yet.
    pub fn shared(&self) -> PathBuf {
        self.daemon.home().join("shared")
    }

    /// Deletes the pods that are left, and fails when any of them leaves
    /// something on the machine.
    pub async fn finish(mut self) -> Result<()> {
        self.kubelet.delete_all()?;
        self.clean(&[]).await?;
        self.report = false;
        self.kubelet.kill()
    }

    /// Waits until the kubelet has stopped every pod, removes them, and fails
    /// when any of them has left something, processes to spare apart.
    pub(crate) async fn clean(&self, spare: &[u32]) -> Result<()> {
        let began = Instant::now();
        // Stopped by the kubelet, whose own garbage collection would remove them a minute later.
        while !self.stopped().await? {
            if began.elapsed() > Duration::from_secs(30) {
                bail!("not stopped: {:#?}", self.cri().await?.pods().await?);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.cri().await?.remove_all_pods().await?;
        // containerd keeps directories of its state for itself.
        while let left = self.left(spare)?
            && !left.is_empty()
        {
            if began.elapsed() > Duration::from_secs(60) {
                bail!("left by pods that are gone:\n{}", left.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn stopped(&self) -> Result<bool> {
        use cricket_cri_api::v1::{ContainerState, PodSandboxState};
        let cri = self.cri().await?;
        let pods = cri.pods().await?;
        let containers = cri.containers().await?;
        Ok(self.kubelet.pods().await?.is_empty()
            && pods.iter().all(|pod| pod.state() == PodSandboxState::SandboxNotready)
            && containers.iter().all(|container| container.state() == ContainerState::ContainerExited))
    }

    fn left(&self, spare: &[u32]) -> Result<Vec<String>> {
        let mut left = self.kubelet.leaks()?;
        let spared = |leak: &String| {
            let process = spare.iter().any(|pid| leak.starts_with(&format!("process {pid} ")));
            process || self.kubelet.owns(leak) || peer() && leak.starts_with("state")
        };
        left.extend(self.daemon.leaks()?.into_iter().filter(|leak| !spared(leak)));
        Ok(left)
    }
}

impl Drop for Node {
    /// A test that failed says more than its error: tests that pass have called [`Node::finish`].
    fn drop(&mut self) {
        if self.report {
            for event in self.kubelet.events().iter().filter(|event| event.kind == "Warning") {
                eprintln!("{} {}: {}", event.pod, event.reason, event.message);
            }
            let log = self.daemon.log();
            let lines: Vec<_> = log.lines().collect();
            lines[lines.len().saturating_sub(100)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Is the runtime of tests the peer?
pub fn peer() -> bool {
    std::env::var("CRICKET_TEST_PEER").is_ok_and(|value| value == "1")
}
