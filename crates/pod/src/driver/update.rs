//! UpdateContainerResources: zero means unchanged; all or nothing; allowed before the start too.
//! A runtime that keeps limits of its own, as of a virtual machine, is told of them, too.
//! UpdatePodSandboxResources: kept for whoever asks; the pod's cgroup is the kubelet's.

use cricket_cgroup::{Cgroup, CgroupPath};
use cricket_cri_api::v1;
use cricket_model::ContainerId;

use super::Driver;
use crate::error::{Error, Result};
use crate::record::{ContainerState, PodResources, Stored};
use crate::resources;
use crate::shared::blocking;

impl Driver {
    pub(super) async fn update(&mut self, id: &ContainerId, wanted: &v1::LinuxContainerResources) -> Result<()> {
        let container = self.container(id)?.clone();
        let merged = cricket_oci::merge_update(&container.resources.0, wanted);
        let limits = resources::limits(wanted, &self.shared.host.facts)?;
        match container.state {
            ContainerState::Running(_) => {
                let hierarchies = self.shared.hierarchies.clone();
                let whole = resources::limits(&merged, &self.shared.host.facts)?;
                // First, because it may refuse.
                self.tell_runtime(id, &merged).await?;
                let (path, told) = (container.cgroup.clone(), limits.clone());
                blocking("update a cgroup", move || {
                    let path = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
                    let cgroup = Cgroup::open(&hierarchies, &path);
                    cgroup.apply(&limits).map_err(|e| Error::from_kinded("apply the resources", &e))
                })
                .await?;
                crate::cgroups::tell(&self.shared, &container.cgroup, told, &whole).await?;
            }
            ContainerState::Created => {}
            // Only after a restart of the daemon, which gives such a start up.
            ContainerState::Starting => {
                return Err(Error::precondition(format_args!("container {id} is being started")));
            }
            _ => return Err(Error::precondition(format_args!("container {id} has ended"))),
        }
        self.edit(id, |c| c.resources = Stored(merged))?;
        self.save()
    }

    async fn tell_runtime(&self, id: &ContainerId, limits: &v1::LinuxContainerResources) -> Result<()> {
        let (sandbox, shared) = (&self.record.sandbox, self.shared.clone());
        // A handler that is not configured any more cannot be told.
        let Ok(handler) = shared.handlers.get(&sandbox.handler) else { return Ok(()) };
        let limits = cricket_oci::linux_resources(limits, &shared.host.facts)
            .map_err(|e| Error::from_kinded("the new limits", &e))?;
        let limits = serde_json::to_string(&limits).map_err(|e| Error::internal("encode the limits", &e))?;
        let bundle = shared.bundle(&sandbox.id, id);
        let Some(order) = handler.update_config(id.as_str(), &bundle, &shared.config.state, &limits) else {
            return Ok(());
        };
        blocking("tell the runtime of the limits", move || crate::oneshot::run(&shared, &order)).await
    }

    /// systemd has written its units' limits again.
    pub(super) async fn restore_limits(&mut self) {
        for id in self.running() {
            let Ok(container) = self.container(&id) else { continue };
            let restored = match resources::limits(&container.resources.0, &self.shared.host.facts) {
                Ok(whole) => crate::cgroups::restore(&self.shared, &container.cgroup, &whole).await,
                Err(e) => Err(e),
            };
            if let Err(e) = restored {
                // It may have ended, or not have begun.
                tracing::debug!(container = %id, error = %e, "limits not written again");
            }
        }
    }

    pub(super) fn update_sandbox(&mut self, updated: PodResources) -> Result<()> {
        self.record.sandbox.updated = Some(updated);
        self.save()?;
        self.shared.nri.sandbox_updated(&self.record.sandbox);
        Ok(())
    }
}
