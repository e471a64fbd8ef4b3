//! StopPodSandbox and RemovePodSandbox.

use cricket_process::fault::point;

use super::Driver;
use crate::error::Result;
use crate::record::{ContainerState, Exited, SandboxState};
use crate::sandbox::{Failures, discard, disconnect, dismiss};
use crate::shared::{EventKind, now};

impl Driver {
    /// Shows the new pod to subscribers and readers.
    pub(crate) fn announce(&self) {
        self.publish();
        let id = self.record.sandbox.id.clone();
        self.tell(id.as_str(), EventKind::Created);
        self.tell(id.as_str(), EventKind::Started);
    }

    /// Kills what runs, takes the network down, lets the namespaces and the monitor go. Repeatable.
    pub(super) async fn stop_sandbox(&mut self) -> Result<()> {
        let running = self.running();
        self.kill_and_wait(&running).await?;
        for id in running {
            // A start that was under way when the daemon ended.
            let never = |c: &mut crate::record::ContainerRecord| {
                if c.state == ContainerState::Starting {
                    c.state = ContainerState::Exited(unknown());
                }
            };
            self.edit(&id, never)?;
        }
        let was_ready = self.record.sandbox.state == SandboxState::Ready;
        if was_ready {
            self.record.sandbox.state = SandboxState::NotReady;
            self.save_or_warn();
        }
        point("stop.recorded");
        let mut failures = Failures::default();
        failures.note(disconnect(&self.shared, &self.record.sandbox).await);
        failures.note(dismiss(&self.shared, &self.record, self.monitor.as_ref()).await);
        self.monitor = None;
        self.held.clear();
        self.record.sandbox.init = None;
        self.save_or_warn();
        if was_ready {
            let id = self.record.sandbox.id.clone();
            self.tell(id.as_str(), EventKind::Stopped);
            self.shared.nri.sandbox_stopped(&self.record.sandbox);
            tracing::info!(pod = %id, "sandbox stopped");
        }
        failures.result()
    }

    pub(super) async fn remove_sandbox(&mut self) -> Result<()> {
        if self.record.sandbox.state != SandboxState::Removing {
            self.stop_sandbox().await?;
        }
        let flights = self.flights.ids();
        self.await_end(&flights, "is still being made, not done").await?;
        let ids: Vec<_> = self.record.containers.iter().map(|c| c.id.clone()).collect();
        for id in ids {
            self.remove(&id).await?;
        }
        self.record.sandbox.state = SandboxState::Removing;
        self.save_or_warn();
        point("remove.sandbox");
        discard(&self.shared, &self.record, self.monitor.as_ref()).await?;
        let id = self.record.sandbox.id.clone();
        self.tell(id.as_str(), EventKind::Deleted);
        self.shared.nri.sandbox_removed(&self.record.sandbox);
        tracing::info!(pod = %id, "sandbox removed");
        Ok(())
    }
}

/// The end of a container of which nobody knows how it ended.
pub(crate) fn unknown() -> Exited {
    Exited { code: 255, reason: "Unknown".into(), message: String::new(), started_at: 0, finished_at: now() }
}
