//! Processes, told from others that have their IDs later.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_testkit::cri::Cri;
use cricket_testkit::{host, leaks};
use serde_json::Value;

/// Long for an emulated processor, too.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// One process: no other has its ID and its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// In clock ticks after the boot.
    start: u64,
}

impl Process {
    /// The process that has this ID now.
    pub(crate) fn now(pid: i32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        // After the command's name, which may have any character.
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        let start = fields.split(' ').nth(19).context("no start in stat")?.parse()?;
        ensure!(!fields.starts_with('Z'), "process {pid} has ended");
        Ok(Self { pid, start })
    }

    pub(crate) fn lives(&self) -> bool {
        Self::now(self.pid).is_ok_and(|now| now == *self)
    }

    /// Sends a signal, by its name.
    pub(crate) fn kill(&self, signal: &str) -> Result<()> {
        host::run("kill", [&format!("-{signal}"), &self.pid.to_string()]).map(drop)
    }

    pub(crate) fn wait_gone(&self) -> Result<()> {
        host::wait_for("a process to end", SOON, || Ok((!self.lives()).then_some(())))
    }

    /// Its control group in the unified hierarchy.
    pub(crate) fn cgroup(&self) -> Result<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix("0::")).context("no unified hierarchy")?;
        Ok(line.to_owned())
    }
}

/// A container's init.
pub(crate) async fn init(cri: &Cri, container: &str) -> Result<Process> {
    let request = v1::ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
    let answer = cri.runtime().container_status(request).await?.into_inner();
    let info: Value = serde_json::from_str(answer.info.get("info").context("no info")?)?;
    let pid = info["pid"].as_i64().with_context(|| format!("container {container} has no pid"))?;
    Process::now(i32::try_from(pid)?)
}

/// A pod's monitor.
pub(crate) fn monitor(pod: &str) -> Result<Process> {
    let name = format!("cricket-monitor {pod}");
    let all = leaks::processes(pod)?;
    let found = all.iter().find(|process| process.command.contains(&name));
    Process::now(found.with_context(|| format!("pod {pod} has no monitor"))?.pid)
}

/// The init of the PID namespace that a container shares with its pod.
pub(crate) fn pod_init(container: &Process) -> Result<Process> {
    let namespace = |pid: &str| std::fs::read_link(Path::new("/proc").join(pid).join("ns/pid"));
    let wanted = namespace(&container.pid.to_string())?;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Others come and go.
        let comm = std::fs::read_to_string(format!("/proc/{name}/comm")).unwrap_or_default();
        if comm.trim() == "cricket-init" && namespace(&name).is_ok_and(|found| found == wanted) {
            return Process::now(name.parse()?);
        }
    }
    anyhow::bail!("no init in the PID namespace of process {}", container.pid)
}
