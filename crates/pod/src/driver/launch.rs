//! What StartContainer does on the host: the cgroup, and the launch through the monitor.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_cgroup::{Cgroup, CgroupPath, Resources};
use cricket_model::{ContainerId, ErrorKind};
use cricket_oci::oci_spec::runtime::Spec;
use cricket_process::fault::point;
use cricket_runtime::handlers::LaunchInput;
use cricket_runtime::monitor::{Blame, LogTarget, MonitorClient, MonitorError, RunRequest, Started, Supervised};
use tokio::sync::watch;

use super::stop::exterminate;
use crate::bundle::{self, Joined};
use crate::cgroups;
use crate::error::{Error, Result};
use crate::record::{ContainerRecord, SandboxRecord};
use crate::resources;
use crate::shared::{Shared, blocking, exit_record};
use crate::stage;

/// A container that is to be launched.
pub(crate) struct Launch {
    pub(super) shared: Arc<Shared>,
    pub(super) sandbox: SandboxRecord,
    pub(super) bundle: PathBuf,
    pub(super) joined: Joined,
    pub(super) monitor: MonitorClient,
    pub(super) record: Arc<ContainerRecord>,
}

/// A container that was launched.
pub(crate) struct Launched {
    pub(super) started: Started,
    pub(super) spec: Arc<Spec>,
    /// PID of the monitor that has it.
    pub(super) monitor: u32,
}

impl Launch {
    /// Launches the container. When that fails or is cancelled, nothing of it runs any more.
    pub(super) async fn run(self, cancelled: watch::Receiver<bool>) -> Result<Launched> {
        let (shared, record) = (self.shared.clone(), self.record.clone());
        let outcome = self.launch(cancelled).await;
        if outcome.is_err()
            && let Err(e) = exterminate(&shared, &record.cgroup).await
        {
            tracing::debug!(container = %record.id, error = %e, "nothing to kill after a failed start");
        }
        outcome
    }

    async fn launch(self, cancelled: watch::Receiver<bool>) -> Result<Launched> {
        // What blocks is waited for, also when nobody wants the container any more: it must not make a cgroup later.
        let (limits, spec) = self.prepare(cancelled.clone()).await?;
        let made = cgroups::make(&self.shared, &self.record.cgroup, &limits, Some(&spec)).await?;
        point("start.cgroup");
        let at = stage::enter("launch the container");
        let started = self.start(&made.cgroup, &spec, cancelled).await;
        drop(at);
        made.release().await;
        let started = started?;
        point("start.launched");
        Ok(Launched { started, spec: Arc::new(spec), monitor: self.monitor.pid() })
    }

    async fn start(&self, cgroup: &Cgroup, spec: &Spec, mut cancelled: watch::Receiver<bool>) -> Result<Started> {
        let id = &self.record.id;
        let at = stage::enter("ask plugins");
        self.shared.nri.start_container(&self.sandbox, &self.record, spec).await?;
        drop(at);
        let request = self.request(cgroup, spec)?;
        tokio::select! {
            biased;
            Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => Err(killed(id)),
            started = self.monitor.run(request) => started.map_err(|e| start_error(id, &e)),
        }
    }

    async fn prepare(&self, cancelled: watch::Receiver<bool>) -> Result<(Resources, Spec)> {
        let (shared, dir, record, joined) =
            (self.shared.clone(), self.bundle.clone(), self.record.clone(), self.joined.clone());
        let sandbox = self.sandbox.clone();
        blocking("prepare the start", move || {
            make_dirs(&record.make_dirs)?;
            let mut spec = bundle::read(&dir)?;
            bundle::join(&mut spec, &joined)?;
            bundle::limit(&mut spec, &record.resources.0, &shared.host.facts)?;
            bundle::leave_hybrid(&mut spec, &shared.hierarchies);
            let handler = shared.handlers.get(&sandbox.handler);
            if handler.is_ok_and(|handler| handler.delete_config("", &dir, &dir).is_some()) {
                bundle::leave_mappings(&mut spec);
            }
            bundle::write(&dir, &spec)?;
            if let Some(label) = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref()) {
                let cancelled = || *cancelled.borrow();
                crate::selinux::relabel_files(&shared, &sandbox, &record, label, &cancelled)
                    .map_err(|e| if cancelled() { killed(&record.id) } else { e })?;
            }
            let mut limits = resources::limits(&record.resources.0, &shared.host.facts)?;
            resources::add_others(&spec, &mut limits);
            Ok((limits, spec))
        })
        .await
    }

    fn request(&self, cgroup: &Cgroup, spec: &Spec) -> Result<RunRequest> {
        let Self { shared, record, bundle, .. } = self;
        let handler =
            shared.handlers.get(&self.sandbox.handler).map_err(|e| Error::from_kinded("runtime handler", &e))?;
        let (seccomp, extra) = crate::seccomp::for_launch(spec)?;
        let launch = handler.launch_config(&LaunchInput {
            id: record.id.as_str(),
            bundle,
            state: &shared.config.state,
            terminal: record.config.0.tty,
            cgroup,
            seccomp,
            sandbox: false,
        });
        Ok(RunRequest {
            container: supervised(shared, record, bundle, monitor_cgroup(cgroup)),
            helper: shared.helpers.launch().map_err(|e| Error::internal("duplicate the launcher", &e))?,
            args: vec!["cricket-launch".into(), record.id.to_string()],
            config: crate::exec::memfd_json(&launch)?,
            extra,
        })
    }
}

/// What a monitor is told of a container.
pub(crate) fn supervised(
    shared: &Shared,
    record: &ContainerRecord,
    bundle: &Path,
    cgroup: cricket_runtime::monitor::Cgroup,
) -> Supervised {
    let config = &record.config.0;
    Supervised {
        container: record.id.to_string(),
        log: log_target(record, shared.config.max_log_line),
        tty: config.tty,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        cgroup: Some(cgroup),
        exit_path: Some(exit_record(bundle)),
        attachable: true,
    }
}

/// Directories of hostPath volumes that are missing are made, as kubelets of every version expect.
fn make_dirs(dirs: &[PathBuf]) -> Result<()> {
    for dir in dirs {
        crate::sandbox::make_dir(dir, 0o755)?;
    }
    Ok(())
}

/// The cgroup as the monitor knows it: where its processes and its kill counter are.
pub(crate) fn monitor_cgroup(cgroup: &Cgroup) -> cricket_runtime::monitor::Cgroup {
    cricket_runtime::monitor::Cgroup { processes: cgroup.processes_dir(), memory: cgroup.memory_dir() }
}

/// The same of a cgroup that was made before.
pub(crate) fn open_monitor_cgroup(shared: &Shared, path: &str) -> Result<cricket_runtime::monitor::Cgroup> {
    let path = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
    Ok(monitor_cgroup(&Cgroup::open(&shared.hierarchies, &path)))
}

fn log_target(record: &ContainerRecord, max_line: u32) -> Option<LogTarget> {
    let path = &record.config.0.log_path;
    let directory = record.log_path.strip_suffix(path.as_str())?.trim_end_matches('/');
    (!directory.is_empty() && !path.is_empty()).then(|| LogTarget {
        directory: directory.into(),
        path: path.into(),
        max_line,
    })
}

fn killed(id: &ContainerId) -> Error {
    Error::precondition(format_args!("container {} was killed while it was being started", id.short()))
}

/// A failed start in the words that users of other runtimes know.
fn start_error(id: &ContainerId, error: &MonitorError) -> Error {
    match error {
        MonitorError::Helper(failure) => {
            let kind = match failure.blame {
                Blame::Command | Blame::Content => ErrorKind::FailedPrecondition,
                Blame::Host | Blame::Gone => ErrorKind::Internal,
            };
            Error::new(kind, format_args!("start container {}: {}", id.short(), failure.message))
        }
        other => Error::internal(format_args!("start container {}", id.short()), other),
    }
}
