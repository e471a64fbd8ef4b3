//! Taking a pod down: every step is tried whatever the others say, and what failed is reported together.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cricket_model::ErrorKind;
use cricket_process::fault::point;
use cricket_runtime::monitor::{MonitorClient, MonitorError, kill_stuck};
use cricket_store::Batch;

use super::files;
use crate::error::{Error, Result};
use crate::record::{PodRecord, SandboxRecord};
use crate::shared::{Shared, blocking};
use crate::stage;

/// What went wrong on the way, in the order it did.
#[derive(Default)]
pub(crate) struct Failures(Vec<String>);

impl Failures {
    /// Notes a step's failure.
    pub(crate) fn note<T>(&mut self, result: Result<T>) {
        if let Err(e) = result {
            self.0.push(e.to_string());
        }
    }

    /// One error of all of them.
    pub(crate) fn result(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::new(ErrorKind::Internal, self.0.join("; "))) }
    }
}

/// Detaches the pod from its networks and gives its network namespace up.
pub(crate) async fn disconnect(shared: &Arc<Shared>, sandbox: &SandboxRecord) -> Result<()> {
    let Some(netns) = sandbox.netns.clone() else { return Ok(()) };
    let mut failures = Failures::default();
    let mounted = {
        let netns = netns.clone();
        blocking("look at the network namespace", move || {
            Ok(cricket_process::mounts::is_mount_point(&netns).unwrap_or(false))
        })
        .await?
    };
    // The plugins work from the cached result where the namespace is gone already.
    let there = mounted.then_some(netns.as_path());
    let at = stage::enter("take the pod off its network");
    failures.note(
        shared.cni.del(&sandbox.id, there).await.map_err(|e| Error::from_kinded("tear down the pod's network", &e)),
    );
    drop(at);
    point("sandbox.detached");
    let unpin = move || {
        cricket_process::pin::unpin(&netns).map_err(|e| Error::internal(format_args!("unpin {}", netns.display()), &e))
    };
    failures.note(blocking("unpin the network namespace", unpin).await);
    failures.result()
}

/// Removes everything of a pod: running or half-made containers, network, monitor, mounts, files, records.
///
/// # Errors
/// All that could not be removed; the records stay then, so that it can be gone on with.
pub(crate) async fn discard(shared: &Arc<Shared>, record: &PodRecord, monitor: Option<&MonitorClient>) -> Result<()> {
    let mut failures = Failures::default();
    let id = &record.sandbox.id;
    for container in &record.containers {
        failures.note(crate::driver::discard_container(shared, &record.sandbox, container).await);
    }
    failures.note(disconnect(shared, &record.sandbox).await);
    failures.note(super::container::delete(shared, &record.sandbox).await);
    failures.note(dismiss(shared, record, monitor).await);
    let dir = shared.pod_dir(id);
    let hierarchies = shared.hierarchies.clone();
    let init = shared.cgroups.leaf(&shared.cgroups.parent(&record.sandbox.config.0), id.as_str());
    failures.note(
        blocking("remove the pod's files", move || {
            let mut failures = Failures::default();
            failures.note(unmount(&files::shm(&dir)));
            failures.note(super::container::unmount_left(&dir));
            // The cgroup of the pod's init, where it had one; with it go the ancestors that cricket made.
            failures.note(crate::driver::remove_cgroup(&hierarchies, &init));
            if failures.0.is_empty() {
                failures.note(remove_dir(&dir));
            }
            failures.result()
        })
        .await,
    );
    failures.result()?;
    shared.selinux.release(id);
    shared.readers.forget(&shared.cgroups.parent(&record.sandbox.config.0));
    point("sandbox.removed");
    let mut batch = Batch::new();
    batch.delete::<PodRecord>(id.as_str());
    shared.store.commit_later(batch);
    Ok(())
}

/// Goes on with a removal that nobody owns (its create failed, or its daemon ended) until it succeeds.
pub(crate) fn discard_later(shared: &Arc<Shared>, record: PodRecord) {
    let shared = shared.clone();
    tokio::spawn(async move {
        let mut wait = Duration::from_secs(1);
        loop {
            tokio::time::sleep(wait).await;
            match discard(&shared, &record, None).await {
                Ok(()) => return,
                Err(e) => tracing::warn!(pod = %record.sandbox.id, error = %e, "pod not removed yet"),
            }
            wait = (wait * 2).min(Duration::from_secs(60));
        }
    });
}

/// Ends the monitor and the init of a shared PID namespace.
pub(crate) async fn dismiss(shared: &Arc<Shared>, record: &PodRecord, monitor: Option<&MonitorClient>) -> Result<()> {
    let _at = stage::enter("end the pod's monitor");
    if let Some((pid, start_time)) = record.sandbox.init {
        crate::driver::kill_process(pid, start_time);
    }
    let found;
    let monitor = match monitor {
        Some(monitor) => Some(monitor),
        None => {
            let (events, _) = tokio::sync::mpsc::unbounded_channel();
            found = MonitorClient::connect(&shared.pod_dir(&record.sandbox.id), &record.sandbox.id, events).await;
            if let Err(MonitorError::Stuck { pidfd, .. }) = &found {
                return kill(pidfd.as_fd()).await;
            }
            found.as_ref().ok()
        }
    };
    match monitor {
        Some(monitor) => end(monitor).await,
        None => Ok(()),
    }
}

/// Asks the monitor to leave; one that will not is killed.
async fn end(monitor: &MonitorClient) -> Result<()> {
    match monitor.leave().await {
        Ok(()) | Err(MonitorError::Lost | MonitorError::NotRunning) => Ok(()),
        Err(e) => {
            tracing::debug!(error = %e, "the monitor does not leave, killing it");
            kill(monitor.pidfd()).await
        }
    }
}

async fn kill(monitor: BorrowedFd<'_>) -> Result<()> {
    kill_stuck(monitor).await.map_err(|e| Error::internal("kill the pod's monitor", &e))
}

/// Unmounts what is mounted there; nothing being there is fine.
pub(crate) fn unmount(path: &Path) -> Result<()> {
    cricket_process::mounts::unmount_all(path)
        .map_err(|e| Error::internal(format_args!("unmount {}", path.display()), &e))
}

/// Removes a directory with all below it; it not being there is fine. Never crosses into a mount: those are gone by now.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal(format_args!("remove {}", dir.display()), &e))
        }
        _ => Ok(()),
    }
}

/// Makes a directory that others may pass through but not list.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|e| Error::internal(format_args!("make {}", dir.display()), &e))
}
