//! The task that owns one pod.
//!
//! ```text
//!     commands (RPCs)      monitor events      outcomes of tasks      deadlines of stops
//!            │                   │                     │                      │
//!            └───────────────────┴▶ Driver: one at a time ◀┴──────────────────┘
//!                                     │ journal, then effect, then journal
//!                                     ▼
//!                         PodView (published) · Event (broadcast)
//! ```
//!
//! Invariants: only the driver changes the pod's record; every change is in the journal before anyone hears of it;
//! a grace period is a deadline in `stops`, never an await; a create, start or removal is a task in `flights`, and so
//! is what the pod's end takes, never an await.

mod adopt;
mod backlog;
mod create;
mod ending;
mod exit;
mod flight;
mod images;
mod launch;
mod poststop;
mod remove;
mod start;
mod stop;
mod unattended;
mod update;

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cricket_cri_api::v1;
use cricket_model::{ContainerId, ErrorKind, SandboxId};
use cricket_runtime::monitor::{MonitorClient, MonitorEvent};
use cricket_store::{Batch, Encoded, Journal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::joins::Joins;
use crate::record::{ContainerRecord, ContainerState, PodRecord, PodResources, SandboxState};
use crate::shared::{Event, EventKind, Shared, now};
use crate::stage::Stage;
use crate::view::{Live, PodView};

pub(crate) use adopt::surviving;
pub(crate) use backlog::Backlog;
pub(crate) use ending::{Ending, unknown};
pub(crate) use flight::{Flights, Left};
pub(crate) use launch::monitor_cgroup;
pub(crate) use remove::{discard_container, kill_process, remove_cgroup};
pub(crate) use stop::Stop;
pub(crate) use unattended::Watches;

/// Answer channel of a command.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// What RPCs ask of a driver.
pub(crate) enum Command {
    /// Makes a container; answers with its ID.
    Create {
        config: Box<v1::ContainerConfig>,
        sandbox: Box<v1::PodSandboxConfig>,
        stage: Stage,
        reply: Reply<ContainerId>,
    },
    /// Launches a container.
    Start { id: ContainerId, reply: Reply<()> },
    /// Asks a container to stop and answers when it has.
    Stop { id: ContainerId, grace: std::time::Duration, reply: Reply<()> },
    /// Removes a container, by force if it runs.
    Remove { id: ContainerId, reply: Reply<()> },
    /// Changes a container's limits.
    Update { id: ContainerId, resources: Box<v1::LinuxContainerResources>, reply: Reply<()> },
    /// Remembers what the pod as a whole is to have.
    UpdateSandbox { updated: Box<PodResources>, reply: Reply<()> },
    /// Kills the containers and takes the network and namespaces down.
    StopSandbox { reply: Reply<()> },
    /// Removes the pod with all that is left of it. The driver ends when it succeeded.
    RemoveSandbox { reply: Reply<()> },
    /// Something outside took the network namespace away.
    NetnsGone,
    /// systemd may have written over limits that it cannot be told of.
    RestoreLimits,
}

/// A pod as the registry holds it.
pub(crate) struct PodHandle {
    pub(crate) id: SandboxId,
    pub(crate) view: ArcSwap<PodView>,
    /// Changes when another picture has been published.
    pub(crate) published: watch::Sender<()>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) creates: Joins<v1::ContainerConfig>,
}

/// A namespace of the pod that the monitor holds, and our duplicate of it.
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) fd: Arc<OwnedFd>,
    /// How others name it: `/proc/PID/fd/N` of the monitor.
    pub(crate) path: std::path::PathBuf,
}

/// The owner of one pod.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) handle: Arc<PodHandle>,
    pub(crate) record: PodRecord,
    pub(crate) journal: Journal<PodRecord>,
    pub(crate) journalled: usize,
    pub(crate) monitor: Option<MonitorClient>,
    pub(crate) monitor_events: mpsc::UnboundedReceiver<MonitorEvent>,
    pub(crate) held: Vec<Held>,
    pub(crate) live: HashMap<ContainerId, Arc<Live>>,
    pub(crate) stops: HashMap<ContainerId, Stop>,
    pub(crate) flights: Flights,
    /// The pod's end under way.
    pub(crate) ending: Option<Ending>,
    /// Containers whose start succeeded without its caller hearing of it: a repetition succeeds, too.
    pub(crate) unheard: HashSet<ContainerId>,
    pub(crate) backlog: Backlog,
    pub(crate) watches: Watches,
    /// The pod is gone. Who asked for that is answered when its name is free.
    pub(crate) farewell: Option<Vec<Reply<()>>>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

/// Journal lines after which it is rewritten with the last one only.
const COMPACT_AFTER: usize = 32;

impl Driver {
    /// Runs until the pod is removed.
    pub(crate) async fn run(mut self, gone: impl FnOnce(&PodHandle) + Send) {
        loop {
            while let Some(command) = self.flights.due.pop_front() {
                self.on_command(command).await;
            }
            self.advance();
            if let Some(waiting) = self.farewell.take() {
                // It is taken from the lists, then who asked for that is answered.
                gone(&self.handle);
                waiting.into_iter().for_each(|reply| drop(reply.send(Ok(()))));
                return;
            }
            self.schedule();
            let (deadline, again) = (self.next_deadline(), self.backlog.at);
            tokio::select! {
                biased;
                Some(event) = self.monitor_events.recv() => self.on_monitor(event).await,
                done = self.flights.next() => self.on_done(done).await,
                () = sleep_until(deadline) => self.kill_overdue(),
                () = sleep_until(again) => self.go_on().await,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => return,
                },
            }
        }
    }

    /// Carries one command out, or begins to.
    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Create { config, sandbox, stage, reply } => self.begin_create(*config, *sandbox, stage, reply),
            Command::Start { id, reply } => {
                if let Some(Command::Start { id, reply }) =
                    self.flights.put_off(&id.clone(), Command::Start { id, reply })
                {
                    self.begin_start(id, reply);
                }
            }
            Command::Stop { id, grace, reply } => self.stop(&id, grace, reply),
            Command::Remove { id, reply } => self.on_remove(id, reply),
            Command::Update { id, resources, reply } => {
                let update = Command::Update { id: id.clone(), resources, reply };
                if let Some(Command::Update { id, resources, reply }) = self.flights.put_off(&id, update) {
                    let result = self.update(&id, &resources).await;
                    let _ = reply.send(result);
                }
            }
            Command::UpdateSandbox { updated, reply } => drop(reply.send(self.update_sandbox(*updated))),
            Command::StopSandbox { reply } => self.stop_sandbox(reply),
            Command::RemoveSandbox { reply } => self.remove_sandbox(Some(reply)),
            Command::RestoreLimits => self.restore_limits().await,
            Command::NetnsGone => self.sandbox_lost("its network namespace is gone"),
        }
    }

    /// The container's place in the record.
    pub(crate) fn position(&self, id: &ContainerId) -> Result<usize> {
        self.record
            .containers
            .iter()
            .position(|c| &c.id == id)
            .ok_or_else(|| Error::not_found("container", id.as_str()))
    }

    /// The container's record.
    pub(crate) fn container(&self, id: &ContainerId) -> Result<&Arc<ContainerRecord>> {
        self.position(id).map(|i| &self.record.containers[i])
    }

    /// Changes a container's record in memory; [`Self::save`] makes it count.
    pub(crate) fn edit(&mut self, id: &ContainerId, change: impl FnOnce(&mut ContainerRecord)) -> Result<()> {
        let i = self.position(id)?;
        change(Arc::make_mut(&mut self.record.containers[i]));
        Ok(())
    }

    /// Journals the record, queues it for the store, publishes it.
    ///
    /// Where it is called: the line is one write(2) to a tmpfs, some microseconds that wait for no device. A thread for
    /// that would cost more, and let something else happen between a change and its record.
    ///
    /// # Errors
    /// When the journal cannot be written. The change is published all the same: what has happened has happened.
    pub(crate) fn save(&mut self) -> Result<()> {
        let written = self.write();
        self.publish();
        written
    }

    fn write(&mut self) -> Result<()> {
        let record = Encoded::of(&self.record).map_err(|e| Error::from_kinded("encode the pod's record", &e))?;
        let written = if self.journalled >= COMPACT_AFTER {
            self.journalled = 0;
            self.journal.rewrite_encoded(&record)
        } else {
            self.journalled += 1;
            self.journal.append_encoded(&record)
        };
        let mut batch = Batch::new();
        batch.put_encoded(self.record.sandbox.id.as_str(), &record);
        self.shared.store.commit_later(batch);
        written.map_err(|e| Error::from_kinded("write the pod's journal", &e))
    }

    /// As [`Self::save`], where a record that cannot be written must not stop the work (teardown).
    pub(crate) fn save_or_warn(&mut self) {
        if let Err(e) = self.save() {
            tracing::warn!(pod = %self.record.sandbox.id, error = %e, "record not written");
        }
    }

    /// Replaces the published picture.
    pub(crate) fn publish(&self) {
        let view = PodView {
            record: Arc::new(self.record.clone()),
            monitor: self.monitor.clone(),
            live: Arc::new(self.live.clone()),
        };
        self.handle.view.store(Arc::new(view));
        self.handle.published.send_replace(());
    }

    /// Tells subscribers of what has just been published.
    pub(crate) fn tell(&self, id: &str, kind: EventKind) {
        let pod = PodView::clone(&self.handle.view.load());
        // No subscriber is no error.
        let _ = self.shared.events.send(Event { id: id.to_owned(), kind, at: now(), pod });
    }

    /// The monitor, or why there is none.
    pub(crate) fn monitor(&self) -> Result<&MonitorClient> {
        self.monitor.as_ref().ok_or_else(|| {
            let pod = &self.record.sandbox.id;
            match self.record.sandbox.state {
                SandboxState::Ready => {
                    Error::new(ErrorKind::Unavailable, format_args!("pod {pod} has no monitor: it is being replaced"))
                }
                _ => Error::precondition(format_args!("pod {pod} has no monitor: it is stopped")),
            }
        })
    }

    /// Fails unless the sandbox takes containers.
    pub(crate) fn require_ready(&self) -> Result<()> {
        if self.ending.is_some() {
            return Err(Error::precondition(format_args!("pod {} is being stopped", self.record.sandbox.id)));
        }
        match self.record.sandbox.state {
            SandboxState::Ready => Ok(()),
            state => Err(Error::precondition(format_args!("pod {} is not ready ({state:?})", self.record.sandbox.id))),
        }
    }

    /// IDs of the containers whose init runs or may run.
    pub(crate) fn running(&self) -> Vec<ContainerId> {
        let runs = |c: &&Arc<ContainerRecord>| matches!(c.state, ContainerState::Running(_) | ContainerState::Starting);
        self.record.containers.iter().filter(runs).map(|c| c.id.clone()).collect()
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
