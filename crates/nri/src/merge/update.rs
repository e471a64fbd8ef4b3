//! Updates: of the container that a request is about, and of others.

use crate::api::{ContainerUpdate, LinuxContainerUpdate, LinuxCpu, LinuxMemory, LinuxResources};

use super::owners::{MergeError, Owners};
use super::resources::Claim;

/// The updates that plugins ask for, merged by container.
#[derive(Debug, Default)]
pub struct Updating {
    owners: Owners,
    /// The container whose update is relayed, and what is to be set.
    own: Option<(String, LinuxResources)>,
    /// Whether a plugin changed that.
    changed: Option<LinuxResources>,
    others: Vec<ContainerUpdate>,
}

impl Updating {
    /// For a request that is no update.
    pub fn new() -> Self {
        Self::default()
    }

    /// For the update of container `id` to `resources`.
    pub fn of(id: &str, mut resources: LinuxResources) -> Self {
        resources.memory.get_or_insert_default();
        resources.cpu.get_or_insert_default();
        Self { own: Some((id.to_owned(), resources)), ..Self::default() }
    }

    /// What the next plugin is told that the container's resources are to be.
    pub fn resources(&self) -> Option<&LinuxResources> {
        self.own.as_ref().map(|(_, resources)| resources)
    }

    /// What plugins made of the container's own update, when one changed it; the updates of others.
    pub fn finish(self) -> (Option<LinuxResources>, Vec<ContainerUpdate>) {
        (self.changed, self.others)
    }

    /// Adds one plugin's answer.
    pub fn apply(&mut self, updates: &[ContainerUpdate], plugin: &str) -> Result<(), MergeError> {
        let Self { owners, own, changed, others } = self;
        for update in updates {
            let own = own.as_mut().filter(|(id, _)| *id == update.container_id);
            let merged = match own {
                Some((_, resources)) => merge(owners, update, resources, plugin).map(|merged| {
                    if let Some(merged) = merged {
                        resources.clone_from(&merged);
                        *changed = Some(merged);
                    }
                }),
                None => other(owners, others, update, plugin),
            };
            if let Err(e) = merged
                && !update.ignore_failure
            {
                return Err(e);
            }
        }
        Ok(())
    }
}

/// Merges an update of a container that the request is not about.
pub(super) fn other(
    owners: &mut Owners,
    others: &mut Vec<ContainerUpdate>,
    update: &ContainerUpdate,
    plugin: &str,
) -> Result<(), MergeError> {
    let at = match others.iter().position(|o| o.container_id == update.container_id) {
        Some(at) => {
            others[at].ignore_failure &= update.ignore_failure;
            at
        }
        None => {
            others.push(ContainerUpdate {
                container_id: update.container_id.clone(),
                linux: Some(LinuxContainerUpdate { resources: Some(empty()) }),
                ignore_failure: update.ignore_failure,
            });
            others.len() - 1
        }
    };
    let Some(target) = others[at].linux.as_mut().and_then(|l| l.resources.as_mut()) else { return Ok(()) };
    if let Some(merged) = merge(owners, update, target, plugin)? {
        *target = merged;
    }
    Ok(())
}

/// The target with the update; the target itself stays as it is when there is a conflict.
fn merge(
    owners: &mut Owners,
    update: &ContainerUpdate,
    target: &LinuxResources,
    plugin: &str,
) -> Result<Option<LinuxResources>, MergeError> {
    let Some(asked) = update.linux.as_ref().and_then(|l| l.resources.as_ref()) else { return Ok(None) };
    let mut merged = target.clone();
    Claim { owners, id: &update.container_id, plugin }.apply(asked, &mut [&mut merged])?;
    Ok(Some(merged))
}

fn empty() -> LinuxResources {
    LinuxResources { memory: Some(LinuxMemory::default()), cpu: Some(LinuxCpu::default()), ..LinuxResources::default() }
}

/// Sets in `older` what `newer` sets: the newer of two updates of one container that were asked for one after the other.
pub(crate) fn overlay(older: &mut ContainerUpdate, newer: ContainerUpdate) {
    older.ignore_failure &= newer.ignore_failure;
    let Some(mut newer) = newer.linux.and_then(|linux| linux.resources) else { return };
    let resources = older.linux.get_or_insert_default().resources.get_or_insert_default();
    // Of the sizes that are named twice, the last.
    let limits = std::mem::take(&mut newer.hugepage_limits);
    for limit in limits {
        match resources.hugepage_limits.iter_mut().find(|old| old.page_size == limit.page_size) {
            Some(old) => *old = limit,
            None => resources.hugepage_limits.push(limit),
        }
    }
    let id = older.container_id.as_str();
    let claimed = Claim { owners: &mut Owners::default(), id, plugin: "" }.apply(&newer, &mut [resources]);
    debug_assert!(claimed.is_ok(), "nothing is set twice: {claimed:?}");
}
