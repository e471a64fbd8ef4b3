//! StopPodSandbox and RemovePodSandbox: what they wait for happens beside the driver.
//!
//! ```text
//!  stop ─▶ Killing ─▶ TakingDown ──▶ stopped
//!          (containers end) (task)     │ removal
//!                                      ▼
//!                      Clearing ─▶ Discarding ──▶ gone
//!                 (removals, in flight) (task)
//! ```
//!
//! Invariants: there is one end at a time, and whoever asks for what it does already joins it; nothing is made or
//! started in a pod that is being ended; the pod goes after everything in it. A stage that fails answers everybody.

use std::collections::HashSet;
use std::time::Duration;

use cricket_model::{ContainerId, ErrorKind};
use cricket_process::fault::point;
use tokio::time::Instant;

use super::flight::Done;
use super::stop::DEATH;
use super::{Driver, Reply};
use crate::error::{Error, Result};
use crate::record::{ContainerState, Exited, SandboxState};
use crate::sandbox::{Failures, discard, disconnect, dismiss};
use crate::shared::{EventKind, now};
use crate::stage;

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What runs is killed and waited for.
    Killing,
    /// Network, namespaces and monitor go.
    TakingDown,
    /// Creates come to their end, then the containers are removed.
    Clearing,
    /// The rest of the pod goes.
    Discarding,
}

/// A stop or removal of the pod under way.
pub(crate) struct Ending {
    stage: Stage,
    /// When the stage is given up, where somebody else may never be done.
    deadline: Option<Instant>,
    /// The pod is to be removed, whether or not somebody still waits for that.
    remove: bool,
    stops: Vec<Reply<()>>,
    removals: Vec<Reply<()>>,
    was_ready: bool,
    /// Containers whose removal was begun in this end.
    tried: HashSet<ContainerId>,
    failures: Failures,
    /// What the stop has done.
    log: stage::Stage,
}

impl Ending {
    fn new(stage: Stage) -> Self {
        Self {
            stage,
            deadline: Some(Instant::now() + DEATH),
            remove: false,
            stops: Vec::new(),
            removals: Vec::new(),
            was_ready: false,
            tried: HashSet::new(),
            failures: Failures::default(),
            log: stage::Stage::default(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// A container could not be removed.
    pub(super) fn note(&mut self, error: Error) {
        self.failures.note::<()>(Err(error));
    }
}

impl Driver {
    /// Shows the new pod to subscribers and readers.
    pub(crate) fn announce(&self) {
        self.publish();
        let id = self.record.sandbox.id.clone();
        self.tell(id.as_str(), EventKind::Created);
        self.tell(id.as_str(), EventKind::Started);
    }

    /// Kills the containers, takes the network down, lets the namespaces and the monitor go. Repeatable.
    pub(super) fn stop_sandbox(&mut self, reply: Reply<()>) {
        match &mut self.ending {
            Some(ending) if matches!(ending.stage, Stage::Killing | Stage::TakingDown) => ending.stops.push(reply),
            // It is stopped.
            Some(_) => drop(reply.send(Ok(()))),
            None => self.begin_ending(Stage::Killing).stops.push(reply),
        }
    }

    /// Stops the pod and removes it with all that is in it; `reply` is answered when its name is free.
    pub(super) fn remove_sandbox(&mut self, reply: Option<Reply<()>>) {
        let stopped = self.record.sandbox.state == SandboxState::Removing;
        let ending = match self.ending.take() {
            Some(ending) => self.ending.insert(ending),
            None if stopped => self.begin_ending(Stage::Clearing),
            None => self.begin_ending(Stage::Killing),
        };
        ending.remove = true;
        ending.removals.extend(reply);
    }

    fn begin_ending(&mut self, stage: Stage) -> &mut Ending {
        if stage == Stage::Killing {
            for id in self.running() {
                self.kill(&id);
            }
            self.record.sandbox.timeline.note("its end begins");
        }
        self.ending.insert(Ending::new(stage))
    }

    /// Goes to the next stage of the pod's end, if what this one waits for has happened.
    pub(super) fn advance(&mut self) {
        let Some(ending) = &mut self.ending else { return };
        let overdue = ending.deadline.is_some_and(|deadline| deadline <= Instant::now());
        match ending.stage {
            Stage::Killing => self.after_killing(overdue),
            Stage::Clearing => self.clear(overdue),
            Stage::TakingDown | Stage::Discarding => {}
        }
    }

    fn after_killing(&mut self, overdue: bool) {
        let busy = |id: &ContainerId| self.live.contains_key(id) || self.flights.has(id);
        match self.running().into_iter().find(busy) {
            Some(id) if overdue => self.give_up(&late(&id, "was killed and has not ended")),
            Some(_) => {}
            // It comes to an end, and plugins are not asked twice at once.
            None if self.backlog.detaching => self.wait_without_end(),
            None => self.take_down(),
        }
    }

    fn wait_without_end(&mut self) {
        if let Some(ending) = &mut self.ending {
            ending.deadline = None;
        }
    }

    fn take_down(&mut self) {
        for id in self.running() {
            // A start that was under way when the daemon ended.
            let _ = self.edit(&id, |c| {
                if c.state == ContainerState::Starting {
                    c.state = ContainerState::Exited(unknown());
                }
            });
        }
        // From here on its end is no loss.
        let monitor = self.monitor.take();
        let was_ready = self.record.sandbox.state == SandboxState::Ready;
        if was_ready {
            self.record.sandbox.state = SandboxState::NotReady;
            self.save_or_warn();
        }
        point("stop.recorded");
        let (shared, record) = (self.shared.clone(), self.record.clone());
        let work = async move {
            let mut failures = Failures::default();
            failures.note(disconnect(&shared, &record.sandbox).await);
            failures.note(dismiss(&shared, &record, monitor.as_ref()).await);
            failures.result()
        };
        let log = stage::Stage::default();
        self.flights.beside(log.clone().scope(work), Done::TakenDown);
        if let Some(ending) = &mut self.ending {
            ending.log = log;
            (ending.stage, ending.deadline, ending.was_ready) = (Stage::TakingDown, None, was_ready);
        }
    }

    pub(super) fn taken_down(&mut self, result: Result<()>) {
        self.held.clear();
        self.record.sandbox.init = None;
        if let Some(ending) = &self.ending {
            self.record.sandbox.timeline.add(ending.log.taken());
        }
        self.save_or_warn();
        let Some(ending) = &mut self.ending else { return };
        if std::mem::take(&mut ending.was_ready) {
            let id = self.record.sandbox.id.clone();
            self.tell(id.as_str(), EventKind::Stopped);
            self.shared.nri.sandbox_stopped(&self.record.sandbox);
            tracing::info!(pod = %id, "sandbox stopped");
        }
        if let Err(e) = result {
            return self.give_up(&e);
        }
        self.backlog.network = false;
        let Some(ending) = &mut self.ending else { return };
        ending.stops.drain(..).for_each(|reply| drop(reply.send(Ok(()))));
        if ending.remove {
            (ending.stage, ending.deadline) = (Stage::Clearing, Some(Instant::now() + DEATH));
        } else {
            self.ending = None;
        }
    }

    /// Removes the containers, once none is being made any more.
    fn clear(&mut self, overdue: bool) {
        if let Some(id) = self.flights.unlike_removals() {
            if overdue {
                self.give_up(&late(&id, "is still being made, not done"));
            }
            return;
        }
        self.wait_without_end();
        if self.flights.has_hooks() {
            return;
        }
        let ids: Vec<_> = self.record.containers.iter().map(|c| c.id.clone()).collect();
        for id in ids.iter().filter(|id| !self.flights.has(id)).cloned().collect::<Vec<_>>() {
            let first = self.ending.as_mut().is_some_and(|ending| ending.tried.insert(id.clone()));
            if first {
                self.begin_remove(id, None);
            }
        }
        match (self.flights.is_empty(), self.record.containers.is_empty()) {
            (false, _) => {}
            (true, true) => self.discard(),
            (true, false) => {
                let failures = self.ending.as_mut().map(|ending| std::mem::take(&mut ending.failures));
                let why = failures.unwrap_or_default().result().err();
                let why = why.unwrap_or_else(|| Error::new(ErrorKind::Internal, "containers could not be removed"));
                self.give_up(&why);
            }
        }
    }

    fn discard(&mut self) {
        let monitor = self.monitor.take();
        self.record.sandbox.state = SandboxState::Removing;
        self.save_or_warn();
        point("remove.sandbox");
        let (shared, record) = (self.shared.clone(), self.record.clone());
        self.flights.beside(async move { discard(&shared, &record, monitor.as_ref()).await }, Done::Discarded);
        if let Some(ending) = &mut self.ending {
            ending.stage = Stage::Discarding;
        }
    }

    /// The pod is gone, or not quite.
    pub(super) fn discarded(&mut self, result: Result<()>) {
        if let Err(e) = result {
            return self.give_up(&e);
        }
        let id = self.record.sandbox.id.clone();
        self.tell(id.as_str(), EventKind::Deleted);
        self.shared.nri.sandbox_removed(&self.record.sandbox);
        tracing::info!(pod = %id, "sandbox removed");
        let ending = self.ending.take();
        self.farewell = Some(ending.map(|ending| ending.removals).unwrap_or_default());
    }

    /// Ends the end: everybody is told why, and may ask again.
    fn give_up(&mut self, error: &Error) {
        let Some(ending) = self.ending.take() else { return };
        let waiting: Vec<_> = ending.stops.into_iter().chain(ending.removals).collect();
        if waiting.is_empty() {
            tracing::warn!(pod = %self.record.sandbox.id, error = %error, "sandbox not removed yet");
        }
        waiting.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
    }
}

fn late(id: &ContainerId, state: &str) -> Error {
    let limit: Duration = DEATH;
    Error::new(ErrorKind::DeadlineExceeded, format_args!("container {id} {state} within {} s", limit.as_secs()))
}

/// The end of a container of which nobody knows how it ended.
pub(crate) fn unknown() -> Exited {
    Exited { code: 255, reason: "Unknown".into(), message: String::new(), started_at: 0, finished_at: now() }
}
