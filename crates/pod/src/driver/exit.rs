//! What a monitor tells: a container's init has ended, or the monitor itself has.

use cricket_model::ContainerId;
use cricket_process::fault::point;
use cricket_runtime::monitor::{ExitFacts, MonitorEvent};

use super::Driver;
use crate::record::{ContainerState, Exited, SandboxState};
use crate::sandbox::INIT;
use crate::shared::{EventKind, now};

impl Driver {
    pub(super) async fn on_monitor(&mut self, event: MonitorEvent) {
        match event {
            MonitorEvent::Exited { container, facts } if container == INIT => {
                tracing::info!(pod = %self.record.sandbox.id, code = facts.exit_code, "the pod's init has ended");
                self.record.sandbox.init = None;
                match crate::sandbox::shared_pid(&self.record.sandbox.config.0) || self.needs_sandbox_container() {
                    true => self.sandbox_lost("its init has ended"),
                    // Nobody but metrics needs it.
                    false => self.save_or_warn(),
                }
            }
            MonitorEvent::Exited { container, facts } => match container.parse::<ContainerId>() {
                Ok(id) => match self.flights.get_mut(&id) {
                    // It has started, too: that comes first.
                    Some(flight) => flight.exit = Some(facts),
                    None => self.exited(&id, &facts),
                },
                Err(e) => tracing::warn!(error = %e, "a monitor speaks of something that is no container"),
            },
            MonitorEvent::Gone => self.monitor_gone().await,
        }
    }

    /// Records the end of a container's init.
    pub(crate) fn exited(&mut self, id: &ContainerId, facts: &ExitFacts) {
        self.live.remove(id);
        let Ok(container) = self.container(id) else { return };
        let started_at = match &container.state {
            ContainerState::Running(running) => running.started_at,
            ContainerState::Starting => facts.created_at,
            _ => return,
        };
        self.shared.readers.forget(&container.cgroup);
        let facts = ExitFacts { oom_killed: facts.oom_killed || self.said_out_of_memory(id), ..*facts };
        let exited = exit_state(&facts, started_at);
        tracing::info!(pod = %self.record.sandbox.id, container = %id, code = exited.code, reason = exited.reason, "container ended");
        let _ = self.edit(id, |c| c.state = ContainerState::Exited(exited));
        self.save_or_warn();
        point("exit.recorded");
        self.tell(id.as_str(), EventKind::Stopped);
        self.tell_plugins_of_end(id);
        self.begin_poststop(id);
        self.stopped(id);
    }

    /// Plugins hear that a container has ended.
    pub(super) fn tell_plugins_of_end(&self, id: &ContainerId) {
        if let Ok(record) = self.container(id) {
            self.shared.nri.stopped(&self.record.sandbox, record);
        }
    }

    /// Whether the container's runtime has said so: a look into `STATE`, which waits for no device.
    fn said_out_of_memory(&self, id: &ContainerId) -> bool {
        let sandbox = &self.record.sandbox;
        let Ok(handler) = self.shared.handlers.get(&sandbox.handler) else { return false };
        handler.was_out_of_memory(id.as_str(), &self.shared.bundle(&sandbox.id, id))
    }

    /// The sandbox cannot take containers any more, though nobody stopped it.
    pub(super) fn sandbox_lost(&mut self, why: &str) {
        if self.record.sandbox.state != SandboxState::Ready {
            return;
        }
        tracing::warn!(pod = %self.record.sandbox.id, why, "sandbox is not ready any more");
        self.record.sandbox.state = SandboxState::NotReady;
        self.save_or_warn();
        let id = self.record.sandbox.id.clone();
        self.tell(id.as_str(), EventKind::Stopped);
    }
}

/// The CRI's reason for an exit, as kubelets and their users read it.
pub(crate) fn exit_state(facts: &ExitFacts, started_at: i64) -> Exited {
    let (reason, message) = match (facts.exit_code, facts.oom_killed, facts.unknown) {
        (_, _, true) => ("Unknown", "the exit status could not be recovered after the loss of the monitor".to_owned()),
        (_, true, _) => ("OOMKilled", String::new()),
        (0, false, _) => ("Completed", String::new()),
        _ => ("Error", String::new()),
    };
    let message = match facts.bytes_lost {
        0 => message,
        lost => format!("{message}{}{lost} bytes of output were lost", if message.is_empty() { "" } else { "; " }),
    };
    let finished_at = if facts.finished_at == 0 { now() } else { facts.finished_at };
    // The start is noted when the launch has answered: what ended in between has not ended before it began.
    let started_at = started_at.min(finished_at);
    Exited { code: facts.exit_code, reason: reason.to_owned(), message, started_at, finished_at }
}
