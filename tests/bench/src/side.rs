//! One of the runtimes that are compared: its daemon, a client, and a pod's way up and down.

use crate::metric::{Call, Net};
use crate::workload::{self, COMMAND, IMAGE, Seccomp};
use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_testkit::cri::Cri;
use cricket_testkit::daemon::{Daemon, Options, Program};
use cricket_testkit::leaks;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Runtime {
    Cricket,
    Containerd,
}

impl Runtime {
    /// Its column's title.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cricket => "cricket",
            Self::Containerd => "containerd + runc",
        }
    }
}

/// A runtime with its daemon.
pub(crate) struct Side {
    pub(crate) runtime: Runtime,
    pub(crate) daemon: Daemon,
    pub(crate) cri: Cri,
    files: PathBuf,
}

/// A pod with its container, running.
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) container: String,
    sandbox: v1::PodSandboxConfig,
}

/// How long each call took, in their order.
pub(crate) type Laps = Vec<(Call, Duration)>;

impl Side {
    /// Starts the daemon with a network as nodes have it, and pulls the pods' image.
    pub(crate) async fn start(runtime: Runtime, cricket: Option<&Path>, registry: &str) -> Result<Self> {
        let program = match (runtime, cricket) {
            (Runtime::Containerd, _) => Program::Containerd,
            (Runtime::Cricket, Some(path)) => Program::At(path.to_owned()),
            (Runtime::Cricket, None) => Program::Cricket,
        };
        let daemon = Daemon::with(Options { program, registry: Some(registry.to_owned()), ..Options::default() })?;
        masquerade(&daemon)?;
        let files = daemon.home().join("files");
        workload::prepare(&files)?;
        let cri = daemon.cri().await?;
        cri.pull(IMAGE).await.with_context(|| format!("{} pulls {IMAGE}", runtime.name()))?;
        Ok(Self { runtime, daemon, cri, files })
    }

    /// A pod until its container runs.
    pub(crate) async fn up(&self, cri: &Cri, net: Net, seccomp: Seccomp, laps: &mut Laps) -> Result<Pod> {
        let sandbox = workload::sandbox(&self.daemon, net);
        let config = workload::container(&self.files, net, seccomp);
        let id = self.lap(Call::RunPodSandbox, laps, cri.run_pod(&sandbox)).await?;
        let container = self.lap(Call::CreateContainer, laps, cri.create(&id, &config, &sandbox)).await?;
        self.lap(Call::StartContainer, laps, cri.start(&container)).await?;
        Ok(Pod { id, container, sandbox })
    }

    /// Stops and removes it, and then what a kubelet would remove.
    pub(crate) async fn down(&self, cri: &Cri, pod: Pod, laps: &mut Laps) -> Result<()> {
        self.lap(Call::StopContainer, laps, cri.stop(&pod.container, 0)).await?;
        self.lap(Call::RemoveContainer, laps, cri.remove(&pod.container)).await?;
        self.lap(Call::StopPodSandbox, laps, cri.stop_pod(&pod.id)).await?;
        self.lap(Call::RemovePodSandbox, laps, cri.remove_pod(&pod.id)).await?;
        self.tidy(&pod.sandbox)
    }

    async fn lap<T, E>(&self, call: Call, laps: &mut Laps, answer: impl Future<Output = Result<T, E>>) -> Result<T>
    where
        Result<T, E>: Context<T, E>,
    {
        let began = Instant::now();
        let answer = answer.await;
        laps.push((call, began.elapsed()));
        answer.with_context(|| format!("{}: {call:?}", self.runtime.name()))
    }

    /// The log directory and the control groups that a kubelet makes and removes.
    fn tidy(&self, sandbox: &v1::PodSandboxConfig) -> Result<()> {
        std::fs::remove_dir_all(&sandbox.log_directory).with_context(|| sandbox.log_directory.clone())?;
        let parent = sandbox.linux.as_ref().map_or("", |linux| &linux.cgroup_parent).trim_start_matches('/');
        let top = Path::new("/sys/fs/cgroup");
        for hierarchy in leaks::names(top).iter().map(|name| top.join(name)).chain([top.to_owned()]) {
            // Not every hierarchy has it, and some have two names.
            let _ = std::fs::remove_dir(hierarchy.join(parent));
        }
        Ok(())
    }

    /// The daemon's process.
    pub(crate) fn daemon_pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.daemon.pid().context("the daemon does not run")?)?)
    }

    /// What the pods cost besides their own processes: monitors, shims, pauses.
    pub(crate) fn helper_pids(&self) -> Result<Vec<i32>> {
        let daemon = self.daemon_pid()?;
        let own = COMMAND.join(" ");
        let all = leaks::processes(self.daemon.mark())?.into_iter();
        Ok(all.filter(|process| process.pid != daemon && process.command != own).map(|process| process.pid).collect())
    }
}

/// The network as the plugins' documentation shows it: `bridge` with
/// masquerading, then `portmap`. Written before the first pod.
fn masquerade(daemon: &Daemon) -> Result<()> {
    let path = daemon.network().conf_path();
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let mut plugins = list["plugins"].as_array().context("a list without plugins")?.clone();
    let bridge = plugins.iter_mut().find(|plugin| plugin["type"] == "bridge").context("no bridge")?;
    bridge["ipMasq"] = json!(true);
    daemon.network().write(&plugins)
}
