//! UpdateContainerResources: zero means unchanged; all or nothing; allowed before the start too.

use cricket_cgroup::{Cgroup, CgroupPath};
use cricket_cri_api::v1;
use cricket_model::ContainerId;

use super::Driver;
use crate::error::{Error, Result};
use crate::record::{ContainerState, Stored};
use crate::resources;
use crate::shared::blocking;

impl Driver {
    pub(super) async fn update(&mut self, id: &ContainerId, wanted: &v1::LinuxContainerResources) -> Result<()> {
        let container = self.container(id)?.clone();
        let merged = cricket_oci::merge_update(&container.resources.0, wanted);
        match container.state {
            ContainerState::Running(_) => {
                let hierarchies = self.shared.hierarchies.clone();
                let (path, limits) = (container.cgroup.clone(), resources::limits(wanted)?);
                let told = limits.clone();
                blocking("update a cgroup", move || {
                    let path = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
                    let cgroup = Cgroup::open(&hierarchies, &path);
                    cgroup.apply(&limits).map_err(|e| Error::from_kinded("apply the resources", &e))
                })
                .await?;
                crate::cgroups::tell(&self.shared, &container.cgroup, &told).await?;
            }
            ContainerState::Created => {
                resources::limits(wanted)?;
            }
            // Only after a restart of the daemon, which gives such a start up.
            ContainerState::Starting => {
                return Err(Error::precondition(format_args!("container {id} is being started")));
            }
            _ => return Err(Error::precondition(format_args!("container {id} has ended"))),
        }
        self.edit(id, |c| c.resources = Stored(merged))?;
        self.save()
    }
}
