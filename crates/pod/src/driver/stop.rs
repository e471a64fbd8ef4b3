//! StopContainer: the stop signal once, the grace period as a deadline, then KILL to the whole cgroup.
//!
//! A second stop while one waits shortens the deadline but never lengthens it; a timeout of zero kills at once.
//! Nobody's going away abandons a stop.

use std::time::Duration;

use cricket_cgroup::{Cgroup, CgroupPath};
use cricket_model::{ContainerId, ErrorKind};
use cricket_process::fault::point;
use cricket_wire::launch_config::LaunchConfig;
use tokio::time::Instant;

use super::{Command, Driver, Reply};
use crate::error::{Error, Result};
use crate::record::ContainerState;
use crate::shared::{Shared, blocking};

/// How long a killed container may take to die before its callers are told (an uninterruptible mount, say).
pub(super) const DEATH: Duration = Duration::from_secs(30);

/// SIGKILL.
const KILL: i32 = 9;

/// Longest grace period; the CRI's seconds are signed 64 bits.
const LONGEST_GRACE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A stop under way.
pub(crate) struct Stop {
    /// When the cgroup is killed; after that, when the waiting ends.
    deadline: Instant,
    killed: bool,
    waiting: Vec<Reply<()>>,
    /// Removals of it: their turn comes when it has ended.
    then: Vec<Reply<()>>,
}

impl Driver {
    /// The nearest deadline of the stops under way, and of the pod's end.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let pod = self.ending.as_ref().and_then(|ending| ending.deadline());
        self.stops.values().map(|s| s.deadline).chain(pod).min()
    }

    /// Begins or hastens a stop; `reply` is answered when the container has ended.
    pub(super) fn stop(&mut self, id: &ContainerId, grace: Duration, reply: Reply<()>) {
        let running = match self.container(id) {
            Ok(c) => matches!(c.state, ContainerState::Running(_) | ContainerState::Starting),
            Err(_) => false,
        };
        if !running {
            let _ = reply.send(Ok(()));
            return;
        }
        self.begin_stop(id, grace).waiting.push(reply);
        self.kill_overdue();
    }

    /// Ends a container by force; its removal goes on when it has ended.
    pub(super) fn end_before_removal(&mut self, id: &ContainerId, reply: Reply<()>) {
        self.begin_stop(id, Duration::ZERO).then.push(reply);
        self.kill_overdue();
    }

    /// The stop under way, with this grace period at most. One that is being started is signalled when it runs.
    fn begin_stop(&mut self, id: &ContainerId, grace: Duration) -> &mut Stop {
        let deadline = Instant::now() + grace.min(LONGEST_GRACE);
        if !self.stops.contains_key(id) {
            // Written with the end, which is what comes next.
            let _ = self.edit(id, |c| c.timeline.note(format!("to be stopped within {} s", grace.as_secs())));
            if !grace.is_zero() {
                self.signal(id);
            }
        }
        let begin = || Stop { deadline, killed: false, waiting: Vec::new(), then: Vec::new() };
        let stop = self.stops.entry(id.clone()).or_insert_with(begin);
        if !stop.killed {
            stop.deadline = stop.deadline.min(deadline);
        }
        stop
    }

    /// Whether the grace period of the container's stop is over.
    pub(super) fn stop_is_overdue(&self, id: &ContainerId) -> bool {
        self.stops.get(id).is_some_and(|s| s.killed)
    }

    /// Sends the container's stop signal to its init.
    pub(super) fn signal(&self, id: &ContainerId) {
        let (Ok(container), Some(live)) = (self.container(id), self.live.get(id)) else { return };
        point("stop.signal");
        if let Some(order) = self.signal_order(id, container.stop_signal) {
            return self.carry_out(id, order);
        }
        if let Err(e) = live.pidfd.send_signal(container.stop_signal) {
            // It ended in between: its exit is on the way.
            tracing::debug!(container = %id, signal = container.stop_signal, error = %e, "stop signal not delivered");
        }
    }

    /// What a runtime has to be asked for where the init is no process of this kernel.
    fn signal_order(&self, id: &ContainerId, signal: i32) -> Option<LaunchConfig> {
        let sandbox = &self.record.sandbox;
        let handler = self.shared.handlers.get(&sandbox.handler).ok()?;
        handler.signal_config(id.as_str(), &self.shared.bundle(&sandbox.id, id), &self.shared.config.state, signal)
    }

    /// Has a runtime send a signal, beside the driver.
    fn carry_out(&self, id: &ContainerId, order: LaunchConfig) {
        let (shared, id) = (self.shared.clone(), id.clone());
        tokio::spawn(async move {
            let sent = blocking("signal a container", move || crate::oneshot::run(&shared, &order)).await;
            if let Err(e) = sent {
                // It ended in between, or its pod's first container did: its exit is on the way.
                tracing::debug!(container = %id, error = %e, "signal not delivered");
            }
        });
    }

    /// Kills what has used its grace period up, and gives up on what does not die of it.
    pub(super) fn kill_overdue(&mut self) {
        let now = Instant::now();
        let due: Vec<ContainerId> =
            self.stops.iter().filter(|(_, s)| s.deadline <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            let Some(stop) = self.stops.get_mut(&id) else { continue };
            if stop.killed {
                if let Some(stop) = self.stops.remove(&id) {
                    let e = Error::new(
                        ErrorKind::DeadlineExceeded,
                        format_args!("container {id} was killed and has not ended within {} s", DEATH.as_secs()),
                    );
                    stop.waiting.into_iter().chain(stop.then).for_each(|w| drop(w.send(Err(e.clone()))));
                }
                continue;
            }
            point("stop.kill");
            stop.killed = true;
            stop.deadline = now + DEATH;
            let _ = self.edit(&id, |c| c.timeline.note("killed"));
            self.kill(&id);
        }
    }

    /// KILL to everything in the container's cgroup, and to its init wherever that is; a launch is given up. Its end
    /// comes as an event: nobody waits for a cgroup that takes its time (v1 freezes and kills it until it is empty).
    pub(crate) fn kill(&mut self, id: &ContainerId) {
        self.flights.doom(id);
        match (self.live.get(id), self.signal_order(id, KILL)) {
            // What stands for the init ends when the container has.
            (Some(_), Some(order)) => self.carry_out(id, order),
            // ESRCH: it has ended, the exit is on the way.
            (Some(live), None) => drop(live.pidfd.send_signal(KILL)),
            (None, _) => {}
        }
        let Ok(record) = self.container(id).cloned() else { return };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            if let Err(e) = kill_cgroup(&shared, &record.cgroup).await {
                tracing::warn!(container = %record.id, error = %e, "cgroup not killed");
            }
        });
    }

    /// Answers those who wait for this container's end.
    pub(super) fn stopped(&mut self, id: &ContainerId) {
        if let Some(stop) = self.stops.remove(id) {
            stop.waiting.into_iter().for_each(|w| drop(w.send(Ok(()))));
            self.flights.due.extend(stop.then.into_iter().map(|reply| Command::Remove { id: id.clone(), reply }));
        }
    }
}

/// Kills what is in a container's cgroup.
async fn kill_cgroup(shared: &Shared, path: &str) -> Result<()> {
    let (hierarchies, path) = (shared.hierarchies.clone(), path.to_owned());
    blocking("kill a cgroup", move || {
        let path = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
        let cgroup = Cgroup::open(&hierarchies, &path);
        if !cgroup.exists() {
            return Ok(());
        }
        cgroup.kill_all().map_err(|e| Error::from_kinded("kill the container's cgroup", &e))
    })
    .await
}

/// Kills what is in a container's cgroup and waits until it is dead: what is said to have ended does not run.
///
/// # Errors
/// `DeadlineExceeded` when it does not die.
pub(super) async fn exterminate(shared: &Shared, path: &str) -> Result<()> {
    kill_cgroup(shared, path).await?;
    let (hierarchies, path) = (shared.hierarchies.clone(), path.to_owned());
    blocking("wait for a cgroup to be empty", move || {
        let path = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
        let empty = Cgroup::open(&hierarchies, &path).wait_empty(DEATH);
        match empty.map_err(|e| Error::from_kinded("wait for the container's cgroup to be empty", &e))? {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format_args!("killed processes are still in {path} after {} s", DEATH.as_secs()),
            )),
        }
    })
    .await
}
