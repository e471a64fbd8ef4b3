//! What could not be done when it was asked for is gone on with: a removal that failed half-way, a network that could
//! not be torn down, a monitor that could not be started.
//!
//! Work is tried again after a while that doubles from a second to a minute, until nothing is left; there is no timer
//! without work.

use std::time::Duration;

use cricket_model::ContainerId;
use tokio::time::Instant;

use super::Driver;
use crate::record::{ContainerState, SandboxState};
use crate::sandbox::disconnect;

/// The first and the longest wait between two attempts.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// When the next attempt is due.
#[derive(Default)]
pub(crate) struct Backlog {
    pub(super) at: Option<Instant>,
    wait: Duration,
    /// The pod's network has to be torn down although nobody asks for it.
    pub(crate) network: bool,
}

impl Backlog {
    /// There is something to do at once: a network that an earlier boot left.
    pub(crate) fn network_left() -> Self {
        Self { at: Some(Instant::now()), wait: Duration::ZERO, network: true }
    }
}

impl Driver {
    /// Sets or clears the next attempt after each thing that happened.
    pub(super) fn schedule(&mut self) {
        if !self.unfinished() {
            self.backlog.at = None;
            self.backlog.wait = Duration::ZERO;
        } else if self.backlog.at.is_none() {
            self.backlog.wait = (self.backlog.wait * 2).clamp(FIRST, LONGEST);
            self.backlog.at = Some(Instant::now() + self.backlog.wait);
        }
    }

    fn unfinished(&self) -> bool {
        let monitorless = self.monitor.is_none() && !self.live.is_empty();
        let removing = self.record.sandbox.state == SandboxState::Removing;
        self.backlog.network || monitorless || removing || !self.half_removed().is_empty()
    }

    fn half_removed(&self) -> Vec<ContainerId> {
        let all = self.record.containers.iter();
        all.filter(|c| c.state == ContainerState::Removing).map(|c| c.id.clone()).collect()
    }

    /// One attempt at everything that is left; true when the pod is gone.
    pub(super) async fn go_on(&mut self) -> bool {
        self.backlog.at = None;
        let id = self.record.sandbox.id.clone();
        if self.monitor.is_none() && !self.live.is_empty() {
            self.find_monitor().await;
        }
        for container in self.half_removed() {
            if let Err(e) = self.remove(&container).await {
                tracing::warn!(pod = %id, container = %container, error = %e, "container not removed yet");
            }
        }
        if self.record.sandbox.state == SandboxState::Removing {
            return match self.remove_sandbox().await {
                Ok(()) => true,
                Err(e) => {
                    tracing::warn!(pod = %id, error = %e, "sandbox not removed yet");
                    false
                }
            };
        }
        if self.backlog.network {
            match disconnect(&self.shared, &self.record.sandbox).await {
                Ok(()) => self.backlog.network = false,
                Err(e) => tracing::warn!(pod = %id, error = %e, "network not torn down yet"),
            }
        }
        false
    }
}
