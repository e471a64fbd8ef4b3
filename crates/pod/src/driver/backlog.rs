//! What could not be done when it was asked for is gone on with: a removal that failed half-way, a network that could
//! not be torn down, a monitor that could not be started.
//!
//! Work is tried again after a while that doubles from a second to a minute, until nothing is left; there is no timer
//! without work.

use std::sync::Arc;
use std::time::Duration;

use cricket_model::ContainerId;
use tokio::time::Instant;

use super::Driver;
use super::flight::Done;
use crate::error::Result;
use crate::record::{ContainerRecord, ContainerState, SandboxState};
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
    /// That is being tried.
    pub(super) detaching: bool,
}

impl Backlog {
    /// There is something to do at once: a network that an earlier boot left.
    pub(crate) fn network_left() -> Self {
        Self { at: Some(Instant::now()), wait: Duration::ZERO, network: true, detaching: false }
    }
}

impl Driver {
    /// Sets or clears the next attempt after each thing that happened.
    pub(super) fn schedule(&mut self) {
        if self.overdue() {
            if self.backlog.at.is_none() {
                self.backlog.wait = (self.backlog.wait * 2).clamp(FIRST, LONGEST);
                self.backlog.at = Some(Instant::now() + self.backlog.wait);
            }
            return;
        }
        self.backlog.at = None;
        // What is being tried counts until it has succeeded.
        if !self.unfinished() {
            self.backlog.wait = Duration::ZERO;
        }
    }

    /// Whether something is left to do.
    fn unfinished(&self) -> bool {
        let removing = |c: &Arc<ContainerRecord>| c.state == ContainerState::Removing;
        let pod = self.record.sandbox.state == SandboxState::Removing;
        self.overdue() || self.backlog.network || pod || self.record.containers.iter().any(removing)
    }

    /// Whether something of that is not under way.
    fn overdue(&self) -> bool {
        let monitorless = self.monitor.is_none() && !self.live.is_empty();
        let pod = self.ending.is_none() && (self.record.sandbox.state == SandboxState::Removing || self.network_left());
        monitorless || pod || !self.half_removed().is_empty()
    }

    fn network_left(&self) -> bool {
        self.backlog.network && !self.backlog.detaching
    }

    fn half_removed(&self) -> Vec<ContainerId> {
        let left = |c: &&Arc<ContainerRecord>| c.state == ContainerState::Removing && !self.flights.has(&c.id);
        self.record.containers.iter().filter(left).map(|c| c.id.clone()).collect()
    }

    /// One attempt at everything that is left.
    pub(super) async fn go_on(&mut self) {
        self.backlog.at = None;
        if self.monitor.is_none() && !self.live.is_empty() {
            self.find_monitor().await;
        }
        for container in self.half_removed() {
            self.begin_remove(container, None);
        }
        match self.ending {
            Some(_) => {}
            None if self.record.sandbox.state == SandboxState::Removing => self.remove_sandbox(None),
            None if self.network_left() => {
                self.backlog.detaching = true;
                let (shared, sandbox) = (self.shared.clone(), self.record.sandbox.clone());
                self.flights.beside(async move { disconnect(&shared, &sandbox).await }, Done::Detached);
            }
            None => {}
        }
    }

    pub(super) fn detached(&mut self, detached: Result<()>) {
        self.backlog.detaching = false;
        match detached {
            Ok(()) => self.backlog.network = false,
            Err(e) => tracing::warn!(pod = %self.record.sandbox.id, error = %e, "network not torn down yet"),
        }
    }
}
