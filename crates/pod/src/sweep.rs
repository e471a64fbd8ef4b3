//! What no record speaks of after a start: files and networks of pods and containers that are gone.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use cricket_model::{ContainerId, SandboxId};

use crate::error::{Error, Result};
use crate::record::PodRecord;
use crate::shared::{Shared, blocking};

/// Containers that have files below the root directory and are in no record.
///
/// A record may reach the disk before the removal of the files that went before it: after a power cut they are back. One
/// with a folder in the state directory is of this boot, and never among them, whatever became of its journal.
pub(crate) fn orphans(shared: &Shared, records: &[PodRecord]) -> Vec<ContainerId> {
    let recorded = records.iter().flat_map(|r| &r.containers).map(|c| c.id.clone());
    let pods = shared.config.state.join("pods");
    let folders = names(&pods).into_iter().flat_map(|pod| names(&pods.join(pod).join("c")));
    let folders = folders.filter_map(|name| name.parse().ok());
    let known: HashSet<ContainerId> = recorded.chain(folders).collect();
    let mut found: HashSet<ContainerId> = shared.images.rootfs_owners().into_iter().collect();
    found.extend(names(&shared.config.root.join("volumes")).iter().filter_map(|name| name.parse().ok()));
    found.into_iter().filter(|id| !known.contains(id)).collect()
}

/// Names in a directory; none where it cannot be read.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).map(|e| e.flatten().collect::<Vec<_>>()).unwrap_or_default();
    entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

async fn remove_files(shared: &Shared, id: &ContainerId) -> Result<()> {
    let removed = shared.images.remove_rootfs(id, None).await;
    removed.map_err(|e| Error::from_kinded("remove a root file system", &e))?;
    let volumes = shared.volumes(id);
    blocking("remove volumes", move || crate::sandbox::remove_dir(&volumes)).await
}

/// Removes what no record speaks of: folders whose first line was never written, networks of pods that are gone, and what
/// [`orphans`] found.
pub(crate) async fn sweep(shared: &Arc<Shared>, known: HashSet<SandboxId>, orphans: Vec<ContainerId>) {
    for id in &orphans {
        tracing::info!(container = %id, "removing the files of a container without a record");
        if let Err(e) = remove_files(shared, id).await {
            tracing::warn!(container = %id, error = %e, "leftover not removed");
        }
    }
    let known = Arc::new(known);
    let gone = {
        let (shared, known) = (shared.clone(), known.clone());
        blocking("look for leftovers", move || Ok(sweep_files(&shared, &known)))
    };
    for id in gone.await.unwrap_or_default() {
        tracing::info!(pod = %id, "removing the network of a pod that is gone");
        if let Err(e) = shared.cni.del(&id, None).await {
            tracing::warn!(pod = %id, error = %e, "network not torn down");
        }
    }
    // Only now: what was just detached is no garbage of the plugins any more. A pod has a folder as long as it exists.
    let pods = shared.config.state.join("pods");
    shared.cni.collect_in_background(move || names(&pods).iter().filter_map(|name| name.parse().ok()).collect());
}

/// The folders; answers the pods that are gone and have a network.
fn sweep_files(shared: &Shared, known: &HashSet<SandboxId>) -> Vec<SandboxId> {
    let pods = shared.config.state.join("pods");
    let entries = std::fs::read_dir(&pods).map(|e| e.flatten().collect::<Vec<_>>()).unwrap_or_default();
    for entry in entries {
        let id = entry.file_name().to_str().and_then(|n| n.parse::<SandboxId>().ok());
        // Journals with a line are records; those made since are the pods of new requests.
        let empty = std::fs::metadata(entry.path().join("journal")).map_or(true, |m| m.len() == 0);
        let old = entry.metadata().and_then(|m| m.modified()).is_ok_and(|at| at < shared.started);
        if id.is_some_and(|id| !known.contains(&id)) && empty && old {
            tracing::info!(folder = %entry.path().display(), "removing a pod's folder without a record");
            if let Err(e) = crate::sandbox::remove_dir(&entry.path()) {
                tracing::warn!(error = %e, "leftover not removed");
            }
        }
    }
    let stored = |id: &SandboxId| shared.store.get::<PodRecord>(id.as_str()).is_ok_and(|r| r.is_some());
    let gone = |id: &SandboxId| !known.contains(id) && !stored(id) && !shared.pod_dir(id).exists();
    shared.cni.cached().into_iter().filter(gone).collect()
}
