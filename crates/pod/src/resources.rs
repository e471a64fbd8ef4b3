//! A container's resources as the CRI says them, as cgroup limits.

use cricket_cgroup::Resources;
use cricket_cri_api::v1::LinuxContainerResources;
use cricket_oci::oci_spec::runtime::Spec;

use crate::error::{Error, Result};

/// As limits of a cgroup; what is zero or empty stays as it is.
///
/// # Errors
/// `InvalidArgument` naming the field that makes no sense.
pub(crate) fn limits(r: &LinuxContainerResources) -> Result<Resources> {
    let set = |n: i64| (n != 0).then_some(n);
    let positive = |field: &str, n: i64| -> Result<Option<u64>> {
        match n {
            0 => Ok(None),
            n => u64::try_from(n).map(Some).map_err(|_| Error::invalid(format_args!("{field} {n} is negative"))),
        }
    };
    Ok(Resources {
        cpu_shares: positive("cpu_shares", r.cpu_shares)?,
        cpu_quota: set(r.cpu_quota),
        cpu_period: positive("cpu_period", r.cpu_period)?,
        cpuset_cpus: (!r.cpuset_cpus.is_empty()).then(|| r.cpuset_cpus.clone()),
        cpuset_mems: (!r.cpuset_mems.is_empty()).then(|| r.cpuset_mems.clone()),
        memory_limit: set(r.memory_limit_in_bytes),
        memory_swap: set(r.memory_swap_limit_in_bytes),
        hugepages: r.hugepage_limits.iter().map(|h| (h.page_size.clone(), h.limit)).collect(),
        unified: r.unified.clone().into_iter().collect(),
        ..Resources::default()
    })
}

/// Adds the limits of a specification that the CRI has no words for: plugins and base specifications set them.
pub(crate) fn add_others(spec: &Spec, limits: &mut Resources) {
    let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) else { return };
    limits.pids_limit = resources.pids().map(|pids| pids.limit());
    limits.memory_reservation = resources.memory().and_then(|memory| memory.reservation());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_becomes_a_limit() {
        let only = limits(&LinuxContainerResources { cpuset_cpus: "0-1".into(), ..Default::default() }).expect("valid");
        assert_eq!(only, Resources { cpuset_cpus: Some("0-1".into()), ..Default::default() });
        assert!(limits(&LinuxContainerResources { cpu_shares: -5, ..Default::default() }).is_err());
    }
}
