//! Work that takes its time, beside the driver: a create, a start, a create's rollback, poststop hooks, a removal, the end
//! of what was left; and of the pod, what its end is made of.
//!
//! ```text
//!  begin_create ─▶ task ─▶ Done::Made ─────▶ CREATED, or undo ─▶ task ─▶ Done::Undone ─▶ gone
//!  begin_start  ─▶ task ─▶ Done::Launched ─▶ RUNNING, or EXITED (StartError)
//!  begin_remove ─▶ task ─▶ Done::Removed ──▶ gone, or still REMOVING (backlog)
//! ```
//!
//! Invariants: a task changes nothing of the record, its outcome does; a container has one task at most; what is asked
//! of a container meanwhile waits in its flight (a stop does not: it has a deadline; another removal joins one).

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::time::Duration;

use cricket_model::ContainerId;
use cricket_process::ExitStatus;
use cricket_runtime::monitor::ExitFacts;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::adopt::lost;
use super::create::Made;
use super::launch::Launched;
use super::stop::exterminate;
use super::{Command, Driver, Reply};
use crate::error::{Error, Result};
use crate::record::ContainerRecord;
use crate::stage::Stage;

/// A task's outcome, with what answers its caller.
pub(crate) enum Done {
    /// CreateContainer's effects.
    Made(ContainerId, Reply<ContainerId>, Result<Made>),
    /// The rollback of a create that failed for this reason.
    Undone(ContainerId, Reply<ContainerId>, Error, Result<()>),
    /// What an earlier daemon left of a container is dead, or does not die.
    Ended(ContainerId, Left, Result<()>),
    /// StartContainer's launch.
    Launched(ContainerId, Reply<()>, Result<Launched>),
    /// The poststop hooks have run.
    Poststop(ContainerId),
    /// RemoveContainer's effects.
    Removed(ContainerId, Result<()>),
    /// A container that no monitor may have has ended.
    Unattended(ContainerId, Result<Option<ExitStatus>>),
    /// The network that an earlier boot left.
    Detached(Result<()>),
    /// The pod's network, namespaces and monitor are gone.
    TakenDown(Result<()>),
    /// All of the pod is gone.
    Discarded(Result<()>),
}

/// What an earlier daemon, or an earlier monitor, left of a container whose init nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It ran, or may have.
    Lost,
    /// Its launch was never asked for: it can be started.
    NeverStarted,
    /// Its launch was under way.
    CutOff,
}

/// What is under way for a container.
#[derive(Default)]
pub(crate) struct Flight {
    /// Ends a launch, wherever it is.
    cancel: Option<watch::Sender<bool>>,
    /// It is to be killed as soon as it exists.
    pub(super) doomed: bool,
    /// It has ended before the driver heard of its start.
    pub(super) exit: Option<ExitFacts>,
    /// What was asked meanwhile.
    then: Vec<Command>,
    /// Who waits for the removal that this is; `None`: it is none.
    pub(super) removal: Option<Vec<Reply<()>>>,
    /// It is poststop hooks, which end by themselves.
    hooks: bool,
    /// What its tasks have done.
    pub(super) log: Stage,
}

/// All tasks of a driver.
#[derive(Default)]
pub(crate) struct Flights {
    of: HashMap<ContainerId, Flight>,
    tasks: JoinSet<Done>,
    /// Commands whose turn has come, before those of the queue.
    pub(super) due: VecDeque<Command>,
}

impl Flights {
    pub(super) fn has(&self, id: &ContainerId) -> bool {
        self.of.contains_key(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Starts a container's poststop hooks.
    pub(super) fn begin_hooks(&mut self, id: ContainerId, work: impl Future<Output = Result<()>> + Send + 'static) {
        self.of.insert(id.clone(), Flight { hooks: true, ..Flight::default() });
        self.beside(work, move |_: Result<()>| Done::Poststop(id));
    }

    /// Whether poststop hooks of a container are being run.
    pub(super) fn has_hooks(&self) -> bool {
        self.of.values().any(|flight| flight.hooks)
    }

    /// A container that something else than its hooks or removal is under way for.
    pub(super) fn unlike_removals(&self) -> Option<ContainerId> {
        self.of.iter().find(|(_, flight)| flight.removal.is_none() && !flight.hooks).map(|(id, _)| id.clone())
    }

    pub(super) fn get_mut(&mut self, id: &ContainerId) -> Option<&mut Flight> {
        self.of.get_mut(id)
    }

    /// The next outcome; never, while there is no task.
    pub(super) async fn next(&mut self) -> Done {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(done)) => return done,
                // Tasks catch panics and are never aborted while their driver lives.
                Some(Err(e)) => tracing::error!(error = %e, "a task of a pod's driver was lost"),
                None => std::future::pending().await,
            }
        }
    }

    /// Starts a task, which `log` is written by.
    pub(super) fn begin<T: Send + 'static>(
        &mut self,
        id: ContainerId,
        cancel: Option<watch::Sender<bool>>,
        log: Stage,
        work: impl Future<Output = Result<T>> + Send + 'static,
        done: impl FnOnce(Result<T>) -> Done + Send + 'static,
    ) {
        self.of.insert(id.clone(), Flight { cancel, log: log.clone(), ..Flight::default() });
        self.succeed(id, log.scope(work), done);
    }

    /// Starts a container's removal.
    pub(super) fn begin_removal(
        &mut self,
        id: ContainerId,
        reply: Option<Reply<()>>,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let removal = Some(reply.into_iter().collect());
        self.of.insert(id.clone(), Flight { removal, ..Flight::default() });
        self.beside(work, move |removed| Done::Removed(id, removed));
    }

    /// Joins the removal of the container that is under way; gives the reply back where there is none.
    pub(super) fn join(&mut self, id: &ContainerId, reply: Reply<()>) -> Option<Reply<()>> {
        match self.of.get_mut(id).and_then(|flight| flight.removal.as_mut()) {
            Some(waiting) => {
                waiting.push(reply);
                None
            }
            None => Some(reply),
        }
    }

    /// Starts the task that comes after another one of the same flight.
    pub(super) fn succeed<T: Send + 'static>(
        &mut self,
        id: ContainerId,
        work: impl Future<Output = Result<T>> + Send + 'static,
        done: impl FnOnce(Result<T>) -> Done + Send + 'static,
    ) {
        self.of.entry(id).or_default();
        self.beside(work, done);
    }

    /// Starts a task that is no container's.
    pub(super) fn beside<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = Result<T>> + Send + 'static,
        done: impl FnOnce(Result<T>) -> Done + Send + 'static,
    ) {
        let work = tokio::spawn(work);
        // A panic is an outcome like others: the container's record must not wait for ever.
        self.tasks.spawn(async move { done(work.await.unwrap_or_else(|e| Err(Error::internal("pod driver", &e)))) });
    }

    /// The container's task has ended: what was asked meanwhile is due.
    pub(super) fn end(&mut self, id: &ContainerId) -> Flight {
        let mut flight = self.of.remove(id).unwrap_or_default();
        self.due.extend(flight.then.drain(..));
        flight
    }

    /// Ends a launch; it is killed if it has succeeded already.
    pub(super) fn doom(&mut self, id: &ContainerId) {
        let Some(flight) = self.of.get_mut(id) else { return };
        flight.doomed = true;
        if let Some(cancel) = &flight.cancel {
            cancel.send_replace(true);
        }
    }

    /// Puts a command off until the container's task has ended; gives it back where there is none, or is one after
    /// which there is nothing to be asked of.
    pub(super) fn put_off(&mut self, id: &ContainerId, command: Command) -> Option<Command> {
        match self.of.get_mut(id) {
            Some(flight) if flight.removal.is_none() => {
                flight.then.push(command);
                None
            }
            _ => Some(command),
        }
    }
}

impl Driver {
    /// Kills what is left of a container; its record follows when that is dead, and says until then what it said.
    pub(crate) fn end_what_is_left(&mut self, id: &ContainerId, left: Left) {
        let Ok(record) = self.container(id).cloned() else { return };
        let shared = self.shared.clone();
        let end = async move { exterminate(&shared, &record.cgroup).await };
        let done = {
            let id = id.clone();
            move |ended| Done::Ended(id, left, ended)
        };
        self.flights.begin(id.clone(), None, Stage::default(), end, done);
    }

    fn ended(&mut self, id: &ContainerId, left: Left, ended: Result<()>) {
        if let Err(e) = ended {
            tracing::warn!(container = %id, error = %e, "what is left of the container does not die");
        }
        self.flights.end(id);
        match left {
            Left::Lost => self.exited(id, &lost()),
            Left::CutOff => {
                self.failed(id, &Error::precondition("the daemon ended while the container was being started"))
            }
            Left::NeverStarted => {
                let _ = self.edit(id, ContainerRecord::unlaunched);
                self.save_or_warn();
                self.stopped(id);
            }
        }
    }

    /// Waits a while for tasks to end, before the driver runs: most do at once.
    pub(crate) async fn settle(&mut self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        while !self.flights.of.is_empty() {
            match tokio::time::timeout_at(deadline, self.flights.next()).await {
                Ok(done) => self.on_done(done).await,
                Err(_) => return,
            }
        }
    }

    /// Lets a task's outcome count.
    pub(super) async fn on_done(&mut self, done: Done) {
        match done {
            Done::Made(id, reply, made) => self.made(id, reply, made),
            Done::Undone(id, reply, error, undone) => self.undone(&id, reply, error, undone),
            Done::Ended(id, left, ended) => self.ended(&id, left, ended),
            Done::Launched(id, reply, launched) => self.launched(&id, reply, launched).await,
            Done::Poststop(id) => self.poststop_ended(&id),
            Done::Removed(id, removed) => self.removed(&id, removed),
            Done::Unattended(id, ended) => self.watched(&id, ended),
            Done::Detached(detached) => self.detached(detached),
            Done::TakenDown(result) => self.taken_down(result),
            Done::Discarded(result) => self.discarded(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that block ask for it, others wait for it.
    #[tokio::test]
    async fn a_launch_is_told_of_its_end_wherever_it_is() {
        let mut flights = Flights::default();
        let (id, (cancel, cancelled)) = (ContainerId::generate(), watch::channel(false));
        let work = async move {
            let (asked, mut waits) = (cancelled.clone(), cancelled);
            tokio::task::spawn_blocking(move || {
                while !*asked.borrow() {
                    std::thread::yield_now()
                }
            })
            .await
            .expect("ask");
            waits.wait_for(|cancelled| *cancelled).await.expect("wait");
            Ok(())
        };
        flights.begin(id.clone(), Some(cancel), Stage::default(), work, Done::Detached);
        flights.doom(&id);
        assert!(flights.get_mut(&id).expect("its flight").doomed);
        assert!(matches!(flights.next().await, Done::Detached(Ok(()))));
    }
}
