//! StartContainer: cgroup, launch through the monitor, running record.

use std::path::PathBuf;
use std::sync::Arc;

use cricket_cgroup::{Cgroup, CgroupPath};
use cricket_cri_api::v1;
use cricket_model::{ContainerId, ErrorKind};
use cricket_oci::oci_spec::runtime::Spec;
use cricket_process::fault::point;
use cricket_process::{Pidfd, ProcessIdentity};
use cricket_runtime::handlers::LaunchInput;
use cricket_runtime::monitor::{Blame, LogTarget, MonitorError, RunRequest, Started};

use super::Driver;
use crate::bundle::{self, Joined};
use crate::error::{Error, Result};
use crate::record::{ContainerRecord, ContainerState, Exited, Running};
use crate::resources;
use crate::shared::{EventKind, Shared, blocking, exit_record, now};
use crate::view::Live;

/// Exit code of a container that could not be started, as containerd gives it.
const START_ERROR: i32 = 128;

impl Driver {
    pub(super) async fn start(&mut self, id: &ContainerId) -> Result<()> {
        self.require_ready()?;
        match self.container(id)?.state.clone() {
            ContainerState::Created => {}
            ContainerState::Running(_) if self.unheard.remove(id) => return Ok(()),
            ContainerState::Running(_) => return Err(Error::precondition(format_args!("container {id} is running"))),
            _ => return Err(Error::precondition(format_args!("container {id} has ended"))),
        }
        self.edit(id, |c| c.state = ContainerState::Starting)?;
        if let Err(e) = self.save() {
            self.edit(id, |c| c.state = ContainerState::Created)?;
            self.publish();
            return Err(e);
        }
        point("start.recorded");
        match self.launch(id).await {
            Ok((started, spec)) => self.started(id, started, spec),
            Err(e) => {
                self.failed(id, &e).await;
                Err(e)
            }
        }
    }

    async fn launch(&mut self, id: &ContainerId) -> Result<(Started, Arc<Spec>)> {
        let record = self.container(id)?.clone();
        let bundle = self.shared.bundle(&self.record.sandbox.id, id);
        let joined = self.joined(&record)?;
        let (shared, dir) = (self.shared.clone(), bundle.clone());
        let (prepared, spec) = {
            let record = record.clone();
            blocking("prepare the start", move || {
                make_dirs(&record.make_dirs)?;
                let mut spec = bundle::read(&dir)?;
                bundle::join(&mut spec, &joined)?;
                bundle::limit(&mut spec, &record.resources.0, &shared.host.facts)?;
                bundle::write(&dir, &spec)?;
                let path = record.cgroup.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
                let cgroup = Cgroup::create(&shared.hierarchies, &path)
                    .map_err(|e| Error::from_kinded("make the cgroup", &e))?;
                let limits = resources::limits(&record.resources.0)?;
                cgroup.apply(&limits).map_err(|e| Error::from_kinded("limit the cgroup", &e))?;
                Ok((cgroup, spec))
            })
            .await?
        };
        point("start.cgroup");
        let handler = self
            .shared
            .handlers
            .get(&self.record.sandbox.handler)
            .map_err(|e| Error::from_kinded("runtime handler", &e))?;
        let config = &record.config.0;
        let (seccomp, extra) = crate::seccomp::for_launch(&spec)?;
        let launch = handler.launch_config(&LaunchInput {
            id: id.as_str(),
            bundle: &bundle,
            state: &self.shared.config.state,
            terminal: config.tty,
            cgroup: &prepared,
            seccomp,
            no_pivot: false,
        });
        let request = RunRequest {
            container: id.to_string(),
            helper: self.shared.helpers.launch().map_err(|e| Error::internal("duplicate the launcher", &e))?,
            args: vec!["cricket-launch".into(), id.to_string()],
            config: crate::exec::memfd_json(&launch)?,
            extra,
            log: log_target(&record, self.shared.config.max_log_line),
            tty: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            cgroup: Some(monitor_cgroup(&prepared)),
            exit_path: Some(exit_record(&bundle)),
            attachable: true,
        };
        let started = self.monitor()?.run(request).await.map_err(|e| start_error(id, &e))?;
        point("start.launched");
        Ok((started, Arc::new(spec)))
    }

    /// The namespaces that this container joins.
    fn joined(&self, record: &ContainerRecord) -> Result<Joined> {
        let held = |name: &str| self.held.iter().find(|h| h.name == name).map(|h| h.path.clone());
        let options = record.config.0.linux.as_ref().and_then(|l| l.security_context.as_ref());
        let options = options.and_then(|s| s.namespace_options.clone()).unwrap_or_default();
        let pid = match v1::NamespaceMode::try_from(options.pid) {
            Ok(v1::NamespaceMode::Pod) => self.record.sandbox.init.map(|(pid, _)| pid),
            Ok(v1::NamespaceMode::Target) => Some(self.target(&options.target_id)?),
            _ => None,
        };
        let pid = pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/pid")));
        Ok(Joined { ipc: held("ipc"), uts: held("uts"), pid })
    }

    /// PID of the container whose PID namespace is joined; it has to run, in this pod.
    fn target(&self, target: &str) -> Result<u32> {
        let found = self.record.containers.iter().find(|c| !target.is_empty() && c.id.as_str().starts_with(target));
        let live = found.and_then(|c| self.live.get(&c.id));
        live.map(|l| l.pid)
            .ok_or_else(|| Error::precondition(format_args!("target container {target:?} is not running in this pod")))
    }

    fn started(&mut self, id: &ContainerId, started: Started, spec: Arc<Spec>) -> Result<()> {
        let pid = started.pid;
        let start_ticks = ProcessIdentity::of(pid.cast_signed()).map(|i| i.start_time).unwrap_or(0);
        let started_at = now();
        let pidfd = Pidfd::from_fd(started.pidfd).map_err(|e| Error::internal("the container's pidfd", &e))?;
        self.live.insert(id.clone(), Arc::new(Live::new(pid, pidfd, started.stdio.into(), spec)));
        self.edit(id, |c| c.state = ContainerState::Running(Running { pid, start_ticks, started_at }))?;
        self.save_or_warn();
        point("start.running");
        tracing::info!(pod = %self.record.sandbox.id, container = %id, pid, "container started");
        self.tell(id.as_str(), EventKind::Started);
        Ok(())
    }

    /// A start that failed leaves a container that has ended, with the cause in its status.
    async fn failed(&mut self, id: &ContainerId, error: &Error) {
        let exited = Exited {
            code: START_ERROR,
            reason: "StartError".into(),
            message: error.to_string(),
            started_at: 0,
            finished_at: now(),
        };
        if let Err(e) = self.exterminate(id).await {
            tracing::debug!(container = %id, error = %e, "nothing to kill after a failed start");
        }
        let _ = self.edit(id, |c| c.state = ContainerState::Exited(exited));
        self.save_or_warn();
        self.tell(id.as_str(), EventKind::Stopped);
    }

    /// Starts the init of a shared PID namespace, where the pod has one.
    pub(crate) async fn start_init(&mut self) -> Result<()> {
        if !crate::sandbox::shared_pid(&self.record.sandbox.config.0) {
            return Ok(());
        }
        let request = crate::exec::init_request(&self.shared, &self.record.sandbox, &self.held).await?;
        let started = self.monitor()?.run(request).await.map_err(|e| Error::internal("start the pod's init", &e))?;
        let start =
            ProcessIdentity::of(started.pid.cast_signed()).map_err(|e| Error::internal("the pod's init", &e))?;
        self.record.sandbox.init = Some((started.pid, start.start_time));
        Ok(())
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

pub(crate) fn log_target(record: &ContainerRecord, max_line: u32) -> Option<LogTarget> {
    let path = &record.config.0.log_path;
    let directory = record.log_path.strip_suffix(path.as_str())?.trim_end_matches('/');
    (!directory.is_empty() && !path.is_empty()).then(|| LogTarget {
        directory: directory.into(),
        path: path.into(),
        max_line,
    })
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
