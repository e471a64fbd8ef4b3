//! StartContainer: the launch beside the driver, the running record, and a stop that came in between.

use std::sync::Arc;

use cricket_cri_api::v1;
use cricket_model::{ContainerId, ErrorKind, Kinded as _};
use cricket_process::fault::point;
use cricket_process::{Pidfd, ProcessIdentity};
use tokio::sync::watch;

use super::adopt::surviving;
use super::flight::Done;
use super::launch::{Launch, Launched};
use super::{Driver, Reply};
use crate::bundle::Joined;
use crate::error::{Error, Result};
use crate::record::{ContainerRecord, ContainerState, Exited, Running};
use crate::shared::{EventKind, now};
use crate::stage::Stage;
use crate::view::{Live, by_prefix};

/// Exit code of a container that could not be started, as containerd gives it.
const START_ERROR: i32 = 128;

impl Driver {
    /// Records the intent and begins; `reply` is answered when the container runs, or has failed to.
    pub(super) fn begin_start(&mut self, id: ContainerId, reply: Reply<()>) {
        match self.intend_start(&id) {
            Ok(Some(launch)) => {
                let (cancel, cancelled) = watch::channel(false);
                let done = {
                    let id = id.clone();
                    move |launched| Done::Launched(id, reply, launched)
                };
                self.flights.begin(id, Some(cancel), Stage::default(), launch.run(cancelled), done);
            }
            Ok(None) => drop(reply.send(Ok(()))),
            Err(e) => drop(reply.send(Err(e))),
        }
    }

    /// Everything up to the record that says STARTING; `None` where it runs and its caller never heard of it.
    fn intend_start(&mut self, id: &ContainerId) -> Result<Option<Launch>> {
        self.require_ready()?;
        let record = self.container(id)?.clone();
        match record.state {
            ContainerState::Created => {}
            ContainerState::Running(_) if self.unheard.remove(id) => return Ok(None),
            ContainerState::Running(_) => return Err(Error::precondition(format_args!("container {id} is running"))),
            ContainerState::Starting => {
                return Err(Error::precondition(format_args!("container {id} is being started")));
            }
            _ => return Err(Error::precondition(format_args!("container {id} has ended"))),
        }
        let launch = Launch {
            shared: self.shared.clone(),
            sandbox: self.record.sandbox.clone(),
            bundle: self.shared.bundle(&self.record.sandbox.id, id),
            joined: self.joined(&record)?,
            monitor: self.monitor()?.clone(),
            record,
        };
        self.edit(id, ContainerRecord::launching)?;
        if let Err(e) = self.save() {
            self.edit(id, ContainerRecord::unlaunched)?;
            self.publish();
            return Err(e);
        }
        point("start.recorded");
        Ok(Some(launch))
    }

    /// The namespaces that this container joins.
    fn joined(&self, record: &ContainerRecord) -> Result<Joined> {
        let held = |name: &str| self.held.iter().find(|h| h.name == name).map(|h| h.path.clone());
        let options = record.config.0.linux.as_ref().and_then(|l| l.security_context.as_ref());
        let options = options.and_then(|s| s.namespace_options.clone()).unwrap_or_default();
        let pid = match v1::NamespaceMode::try_from(options.pid) {
            Ok(v1::NamespaceMode::Pod) => match self.record.sandbox.init {
                Some((pid, start)) => surviving(pid, start).map(|init| pid_namespace(pid, &init)).transpose()?,
                None => None,
            },
            Ok(v1::NamespaceMode::Target) => {
                let target = self.target(&options.target_id)?;
                Some(pid_namespace(target.pid, &target.pidfd)?)
            }
            _ => None,
        };
        Ok(Joined { ipc: held("ipc"), uts: held("uts"), user: held("user"), pid })
    }

    /// The container whose PID namespace is joined; it has to run, in this pod.
    fn target(&self, target: &str) -> Result<Arc<Live>> {
        let all = self.record.containers.iter().filter(|c| c.listed()).map(|c| (&c.id, c.id.to_string()));
        let absent = || Error::precondition(format_args!("target container {target:?} is not running in this pod"));
        match by_prefix("target container", target, all) {
            Ok(id) => self.live.get(id).cloned().ok_or_else(absent),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(absent()),
            Err(e) => Err(e),
        }
    }

    /// The launch has ended.
    pub(super) async fn launched(&mut self, id: &ContainerId, reply: Reply<()>, launched: Result<Launched>) {
        let flight = self.flights.end(id);
        let _ = self.edit(id, |c| c.timeline.add(flight.log.taken()));
        let result = match launched {
            Ok(launched) => self.started(id, launched).await,
            Err(e) => {
                self.failed(id, &e);
                Err(e)
            }
        };
        let runs = result.is_ok();
        if let Err(Ok(())) = reply.send(result) {
            self.unheard.insert(id.clone());
        }
        match flight.exit {
            Some(facts) if runs => self.exited(id, &facts),
            _ if runs && (flight.doomed || self.stop_is_overdue(id)) => self.kill(id),
            // A stop that came in between.
            _ if runs && self.stops.contains_key(id) => self.signal(id),
            _ => {}
        }
    }

    async fn started(&mut self, id: &ContainerId, launched: Launched) -> Result<()> {
        let Launched { started, spec, monitor } = launched;
        let pid = started.pid;
        let start_ticks = ProcessIdentity::of(pid.cast_signed()).map(|i| i.start_time).unwrap_or(0);
        let started_at = now();
        let pidfd = Pidfd::from_fd(started.pidfd).map_err(|e| Error::internal("the container's pidfd", &e))?;
        self.live.insert(id.clone(), Arc::new(Live::new(pid, pidfd, started.stdio.into(), spec.clone())));
        self.edit(id, |c| c.state = ContainerState::Running(Running { pid, start_ticks, started_at }))?;
        self.save_or_warn();
        point("start.running");
        tracing::info!(pod = %self.record.sandbox.id, container = %id, pid, "container started");
        self.tell(id.as_str(), EventKind::Started);
        self.shared.nri.started(&self.record.sandbox, self.container(id)?, &spec);
        // Its monitor may have been replaced before the driver knew that there was something to hand over.
        if let Some(other) = self.monitor.clone().filter(|m| m.pid() != monitor)
            && let Err(e) = self.hand_over(&other, id).await
        {
            tracing::warn!(container = %id, error = %e, "container not handed to the new monitor");
        }
        Ok(())
    }

    /// A start that failed leaves a container that has ended, with the cause in its status.
    pub(super) fn failed(&mut self, id: &ContainerId, error: &Error) {
        let exited = Exited {
            code: START_ERROR,
            reason: "StartError".into(),
            message: error.to_string(),
            started_at: 0,
            finished_at: now(),
        };
        let _ = self.edit(id, |c| c.state = ContainerState::Exited(exited));
        self.save_or_warn();
        self.tell(id.as_str(), EventKind::Stopped);
        self.tell_plugins_of_end(id);
        self.begin_poststop(id);
        self.stopped(id);
    }

    /// Whether the pod is built out of a container of its runtime.
    pub(crate) fn needs_sandbox_container(&self) -> bool {
        self.shared.handlers.get(&self.record.sandbox.handler).is_ok_and(|handler| handler.needs_sandbox_container())
    }

    /// Starts the pod's first container or the init of a shared PID namespace, where the pod has one, or the node wants a
    /// process of every pod.
    pub(crate) async fn start_init(&mut self) -> Result<()> {
        let first = self.needs_sandbox_container();
        let wanted = crate::sandbox::shared_pid(&self.record.sandbox.config.0) || self.shared.config.sandbox_process;
        if !first && !wanted {
            return Ok(());
        }
        let monitor = self.monitor()?;
        let (request, cgroup) = match first {
            true => crate::sandbox::container::request(&self.shared, &self.record.sandbox, &self.held).await?,
            false => crate::exec::init_request(&self.shared, &self.record.sandbox, &self.held).await?,
        };
        let started = monitor.run(request).await;
        cgroup.release().await;
        let started = started.map_err(|e| Error::internal("start the pod's init", &e))?;
        let start =
            ProcessIdentity::of(started.pid.cast_signed()).map_err(|e| Error::internal("the pod's init", &e))?;
        self.record.sandbox.init = Some((started.pid, start.start_time));
        Ok(())
    }
}

/// The PID namespace of a process that still is the one that is meant: had its PID been reused when `/proc/PID` was
/// opened, it would not be alive now.
fn pid_namespace(pid: u32, process: &Pidfd) -> Result<Arc<std::fs::File>> {
    let path = format!("/proc/{pid}/ns/pid");
    let file = std::fs::File::open(&path).map_err(|e| Error::internal(format_args!("open {path}"), &e))?;
    match process.is_alive() {
        Ok(true) => Ok(Arc::new(file)),
        Ok(false) => Err(Error::precondition(format_args!("process {pid}, whose PID namespace is joined, has ended"))),
        Err(e) => Err(Error::internal(format_args!("look at process {pid}"), &e)),
    }
}
