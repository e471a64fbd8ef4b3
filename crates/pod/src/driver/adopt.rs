//! A monitor that died is replaced: what it held is here in duplicate, its containers go on.

use cricket_process::Pidfd;
use cricket_runtime::monitor::{AdoptRequest, ExitFacts, MonitorClient, kill_stuck};
use tokio::sync::mpsc;

use super::Driver;
use super::flight::Left;
use crate::error::{Error, Result};
use crate::record::ContainerState;
use crate::sandbox::hold;
use crate::shared::now;

impl Driver {
    /// The connection to the monitor has ended without our asking.
    pub(super) async fn monitor_gone(&mut self) {
        if self.monitor.take().is_none() {
            return;
        }
        tracing::warn!(pod = %self.record.sandbox.id, "the pod's monitor is gone, replacing it");
        cricket_metrics::monitor_lost();
        self.find_monitor().await;
    }

    /// Gives the pod another monitor, if that can be.
    pub(super) async fn find_monitor(&mut self) {
        if let Err(e) = self.replace_monitor().await {
            tracing::error!(pod = %self.record.sandbox.id, error = %e, "the pod's monitor could not be replaced");
            self.watch_all();
        }
        self.publish();
    }

    /// Starts a monitor over what this daemon holds.
    pub(crate) async fn replace_monitor(&mut self) -> Result<()> {
        let (tx, events) = mpsc::unbounded_channel();
        let dir = self.shared.pod_dir(&self.record.sandbox.id);
        let client = MonitorClient::spawn(&self.shared.helpers, &dir, &self.record.sandbox.id, tx)
            .await
            .map_err(|e| Error::internal("start another monitor", &e))?;
        self.monitor_events = events;
        let fds = self.held.iter().map(|h| (h.name.clone(), h.fd.clone())).collect();
        self.held = match hold(&client, fds).await {
            Ok(held) => held,
            Err(e) => {
                // Nobody would know of it.
                if let Err(e) = kill_stuck(client.pidfd()).await {
                    tracing::error!(pod = %self.record.sandbox.id, error = %e, "a monitor of no use could not be ended");
                }
                return Err(e);
            }
        };
        // What is being launched by the old one ends with it, and is told as a failed start.
        let running: Vec<_> = self.running().into_iter().filter(|id| !self.flights.has(id)).collect();
        for id in running {
            if let Err(e) = self.hand_over(&client, &id).await {
                tracing::warn!(container = %id, error = %e, "container not handed to the new monitor");
            }
        }
        self.monitor = Some(client);
        Ok(())
    }

    /// Gives the monitor a container that another one launched. One that it does not take is watched.
    pub(crate) async fn hand_over(&mut self, client: &MonitorClient, id: &cricket_model::ContainerId) -> Result<()> {
        let given = self.give(client, id).await;
        match given {
            Ok(()) => self.attended(id),
            Err(_) => self.watch(id),
        }
        given
    }

    async fn give(&mut self, client: &MonitorClient, id: &cricket_model::ContainerId) -> Result<()> {
        let record = self.container(id)?.clone();
        let Some(live) = self.live.get(id).cloned() else {
            // Its start was interrupted and nobody knows its PID: the cgroup is the handle that is left.
            self.end_what_is_left(id, Left::Lost);
            return Ok(());
        };
        let duplicate = |e: std::io::Error| Error::internal("duplicate a descriptor", &e);
        let stdio = live.stdio.duplicate().map_err(duplicate)?;
        let created_at = match &record.state {
            ContainerState::Running(running) => running.started_at,
            _ => now(),
        };
        let bundle = self.shared.bundle(&self.record.sandbox.id, id);
        let cgroup = super::launch::open_monitor_cgroup(&self.shared, &record.cgroup)?;
        let request = AdoptRequest {
            container: super::launch::supervised(&self.shared, &record, &bundle, cgroup),
            pid: live.pid,
            pidfd: live.pidfd.try_clone().map_err(|e| Error::internal("duplicate the pidfd", &e))?.into(),
            stdio,
            created_at,
        };
        client.adopt(request).await.map_err(|e| Error::internal("hand the container over", &e))
    }

    /// A container whose end nobody saw.
    pub(crate) fn take_live(&mut self, id: &cricket_model::ContainerId, live: crate::view::Live) {
        self.live.insert(id.clone(), std::sync::Arc::new(live));
    }
}

/// Facts of an end that nobody saw.
pub(crate) fn lost() -> ExitFacts {
    ExitFacts {
        exit_code: 255,
        signal: None,
        oom_killed: false,
        created_at: 0,
        finished_at: now(),
        bytes_lost: 0,
        unknown: true,
        unrecorded: true,
    }
}

/// The container's init, if it is still the process that the record means.
pub(crate) fn surviving(pid: u32, start_ticks: u64) -> Option<Pidfd> {
    cricket_process::ProcessIdentity { pid: pid.cast_signed(), start_time: start_ticks }.open().ok().flatten()
}
