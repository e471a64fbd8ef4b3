//! RemoveContainer: by force where it runs, beside the driver; every step repeatable, so that a restart goes on with it.

use std::sync::Arc;

use cricket_cgroup::{Cgroup, CgroupPath};
use cricket_model::ContainerId;
use cricket_process::fault::point;
use cricket_process::{Pidfd, ProcessIdentity};

use super::{Command, Driver, Reply};
use crate::error::{Error, Result};
use crate::record::{ContainerRecord, ContainerState, Poststop, SandboxRecord};
use crate::sandbox::{Failures, remove_dir, unmount};
use crate::shared::{EventKind, Shared, blocking};

impl Driver {
    /// RemoveContainer. One that is being made is waited for, one that runs or is being started is ended first, one
    /// that is being removed is joined; other containers of the pod wait for none of that.
    pub(super) fn on_remove(&mut self, id: ContainerId, reply: Reply<()>) {
        let starting = self.container(&id).is_ok_and(|c| c.state == ContainerState::Starting);
        if self.live.contains_key(&id) || (starting && self.flights.has(&id)) {
            return self.end_before_removal(&id, reply);
        }
        if let Some(reply) = self.flights.join(&id, reply)
            && let Some(Command::Remove { id, reply }) =
                self.flights.put_off(&id.clone(), Command::Remove { id, reply })
        {
            self.begin_remove(id, Some(reply));
        }
    }

    /// Records the intent and begins to remove a container that does not run and for which nothing is under way.
    pub(crate) fn begin_remove(&mut self, id: ContainerId, reply: Option<Reply<()>>) {
        let Ok(record) = self.container(&id).cloned() else {
            reply.into_iter().for_each(|reply| drop(reply.send(Ok(()))));
            return;
        };
        if record.state != ContainerState::Removing {
            let _ = self.edit(&id, |c| {
                c.state = ContainerState::Removing;
                if c.poststop == Poststop::Due {
                    c.poststop = Poststop::Begun;
                }
            });
            self.save_or_warn();
        }
        point("remove.recorded");
        let (shared, sandbox, monitor) = (self.shared.clone(), self.record.sandbox.clone(), self.monitor.clone());
        let discard = async move {
            discard_container(&shared, &sandbox, &record).await?;
            point("remove.discarded");
            if let Some(monitor) = &monitor
                && let Err(e) = monitor.forget(record.id.as_str()).await
            {
                tracing::debug!(container = %record.id, error = %e, "the monitor did not forget");
            }
            Ok(())
        };
        self.flights.begin_removal(id, reply, discard);
    }

    /// The container is gone, or it stays recorded as being removed.
    pub(super) fn removed(&mut self, id: &ContainerId, removed: Result<()>) {
        let waiting = self.flights.end(id).removal.unwrap_or_default();
        match (&removed, self.container(id).cloned()) {
            (Ok(()), Ok(record)) => {
                self.shared.readers.forget(&record.cgroup);
                self.record.containers.retain(|c| &c.id != id);
                self.handle.creates.forget(&ContainerRecord::key(&record.config.0), id.as_str());
                self.save_or_warn();
                self.stopped(id);
                self.tell(id.as_str(), EventKind::Deleted);
                self.shared.nri.removed(&self.record.sandbox, &record);
                tracing::info!(pod = %self.record.sandbox.id, container = %id, "container removed");
            }
            (Err(e), _) => {
                tracing::warn!(pod = %self.record.sandbox.id, container = %id, error = %e, "container not removed yet");
                if let Some(ending) = &mut self.ending {
                    ending.note(e.clone());
                }
            }
            (Ok(()), Err(_)) => {}
        }
        waiting.into_iter().for_each(|reply| drop(reply.send(removed.clone())));
    }

    /// Half-made and half-removed containers of an earlier daemon go.
    pub(crate) fn remove_unlisted(&mut self) {
        let unlisted = self.record.containers.iter().filter(|c| !c.listed()).map(|c| c.id.clone());
        for id in unlisted.collect::<Vec<_>>() {
            self.begin_remove(id, None);
        }
    }
}

/// Removes what there is of a container, whatever state it was left in: processes, cgroup, mounts, files, volumes.
///
/// # Errors
/// All that is left; the record has to stay then.
pub(crate) async fn discard_container(
    shared: &Arc<Shared>,
    sandbox: &SandboxRecord,
    record: &ContainerRecord,
) -> Result<()> {
    let mut failures = Failures::default();
    if let ContainerState::Running(running) = &record.state {
        kill_process(running.pid, running.start_ticks);
    }
    let bundle = shared.bundle(&sandbox.id, &record.id);
    failures.note(delete(shared, sandbox, record, &bundle).await);
    let (hierarchies, path) = (shared.hierarchies.clone(), record.cgroup.clone());
    failures.note(blocking("remove the container's cgroup", move || remove_cgroup(&hierarchies, &path)).await);
    super::poststop::run(shared, sandbox, record).await;
    let rootfs = bundle.join("rootfs");
    // The layers are the container's until its root file system is forgotten.
    failures.note(super::images::unmount(shared, &bundle).await);
    let removed = shared.images.remove_rootfs(&record.id, Some(&rootfs)).await;
    failures.note(removed.map_err(|e| Error::from_kinded("remove the root file system", &e)));
    let volumes = shared.volumes(&record.id);
    // What a launcher that was killed could not remove itself.
    let launched = shared.config.state.join("youki").join(record.id.as_str());
    failures.note(
        blocking("remove the container's files", move || {
            unmount(&rootfs)?;
            remove_dir(&launched)?;
            remove_dir(&bundle)?;
            remove_dir(&volumes)
        })
        .await,
    );
    failures.result()
}

/// Has an OCI runtime forget the container, where one was started by its binary.
async fn delete(
    shared: &Arc<Shared>,
    sandbox: &SandboxRecord,
    record: &ContainerRecord,
    bundle: &std::path::Path,
) -> Result<()> {
    // A handler that is not configured any more has nothing that could be asked.
    let Ok(handler) = shared.handlers.get(&sandbox.handler) else { return Ok(()) };
    let Some(order) = handler.delete_config(record.id.as_str(), bundle, &shared.config.state) else { return Ok(()) };
    if !bundle.join("config.json").exists() {
        return Ok(());
    }
    let shared = shared.clone();
    blocking("delete the container", move || crate::oneshot::run(&shared, &order)).await
}

/// Kills what is left in the cgroup and removes it.
pub(crate) fn remove_cgroup(hierarchies: &cricket_cgroup::Hierarchies, path: &str) -> Result<()> {
    let path = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
    let cgroup = Cgroup::open(hierarchies, &path);
    if cgroup.exists() {
        cgroup.kill_all().map_err(|e| Error::from_kinded("kill the container's cgroup", &e))?;
    }
    // Also where it is gone in the hierarchy that was asked: a launch that was cut off may have left it in others.
    cgroup.remove().map_err(|e| Error::from_kinded("remove the container's cgroup", &e))
}

/// Kills the process if it is still the one that is meant.
pub(crate) fn kill_process(pid: u32, start_ticks: u64) {
    let meant = ProcessIdentity { pid: pid.cast_signed(), start_time: start_ticks };
    if let Ok(Some(pidfd)) = meant.open() {
        let _: std::result::Result<(), _> = Pidfd::send_signal(&pidfd, 9);
    }
}
