//! What plugins see of the pods, and do to them.

use std::time::Duration;

use cricket_nri::api::{ContainerEviction, ContainerUpdate};
use cricket_nri::{Future, Runtime, Snapshot};

use super::describe;
use crate::pods::Pods;
use crate::record::ContainerState;

pub(super) struct Bridge(pub(super) Pods);

impl Runtime for Bridge {
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for view in self.0.list() {
            let sandbox = &view.record.sandbox;
            snapshot.pods.push(describe::pod(sandbox));
            for record in view.containers() {
                if matches!(record.state, ContainerState::Exited(_)) {
                    continue;
                }
                let live = view.live.get(&record.id).map(|live| live.spec.clone());
                // On a memory file system.
                let bundle = self.0.shared().bundle(&sandbox.id, &record.id);
                let spec = live.or_else(|| crate::bundle::read(&bundle).ok().map(Into::into));
                snapshot.containers.push(describe::container(sandbox, record, spec.as_deref()));
            }
        }
        snapshot
    }

    fn update(&self, update: ContainerUpdate) -> Future<Result<(), String>> {
        let pods = self.0.clone();
        Box::pin(async move {
            let Some(resources) = update.linux.and_then(|linux| linux.resources) else { return Ok(()) };
            describe::updatable(&resources)?;
            let resources = cricket_nri::cri_resources(&resources);
            pods.set_limits(&update.container_id, resources).await.map_err(|e| e.to_string())
        })
    }

    fn evict(&self, eviction: ContainerEviction) -> Future<Result<(), String>> {
        let pods = self.0.clone();
        Box::pin(
            async move { pods.stop_container(&eviction.container_id, Duration::ZERO).await.map_err(|e| e.to_string()) },
        )
    }
}
