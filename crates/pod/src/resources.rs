//! A container's resources as the CRI says them, as cgroup limits.

use cricket_cgroup::Resources;
use cricket_cri_api::v1::LinuxContainerResources;
use cricket_oci::HostFacts;
use cricket_oci::oci_spec::runtime::Spec;

use crate::error::{Error, Result};

/// As limits of a cgroup; what is zero or empty stays as it is. They are what the specification says, by the same rules.
///
/// # Errors
/// `InvalidArgument` naming the field that makes no sense; what this host has no controller for.
pub(crate) fn limits(r: &LinuxContainerResources, host: &HostFacts) -> Result<Resources> {
    let made = cricket_oci::linux_resources(r, host).map_err(|e| Error::from_kinded("resources", &e))?;
    let cpu = made.cpu().clone().unwrap_or_default();
    let memory = made.memory().unwrap_or_default();
    let pages = made.hugepage_limits().iter().flatten();
    Ok(Resources {
        cpu_shares: cpu.shares(),
        cpu_quota: cpu.quota(),
        cpu_period: cpu.period(),
        cpuset_cpus: cpu.cpus().clone(),
        cpuset_mems: cpu.mems().clone(),
        memory_limit: memory.limit(),
        memory_swap: memory.swap(),
        hugepages: pages.map(|p| (p.page_size().clone(), p.limit().unsigned_abs())).collect(),
        unified: made.unified().clone().unwrap_or_default().into_iter().collect(),
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
    use cricket_cri_api::v1;
    use cricket_oci::Hugetlb;

    use super::*;

    #[test]
    fn only_what_is_set_becomes_a_limit() {
        let host = HostFacts::default();
        let made = |r: LinuxContainerResources| limits(&r, &host);
        let only = made(LinuxContainerResources { cpuset_cpus: "0-1".into(), ..Default::default() }).expect("valid");
        assert_eq!(only, Resources { cpuset_cpus: Some("0-1".into()), ..Default::default() });
        assert!(made(LinuxContainerResources { cpu_shares: -5, ..Default::default() }).is_err());
        assert!(made(LinuxContainerResources::default()).expect("valid").is_empty());
    }

    #[test]
    fn the_cgroup_gets_what_the_specification_says() {
        let host = HostFacts {
            swap_accounting: true,
            cgroup_v2: true,
            hugepage_sizes: vec!["2MB".into()],
            ..Default::default()
        };
        let page = |page_size: &str, limit| v1::HugepageLimit { page_size: page_size.into(), limit };
        let asked = LinuxContainerResources {
            memory_limit_in_bytes: 4096,
            hugepage_limits: vec![page("2MB", 0), page("1GB", 0)],
            unified: [("memory.high".to_owned(), "2048".to_owned())].into(),
            ..Default::default()
        };
        let want = Resources {
            memory_limit: Some(4096),
            // Containers do not swap unless they are told to.
            memory_swap: Some(4096),
            hugepages: [("2MB".to_owned(), 0)].into(),
            unified: [("memory.high".to_owned(), "2048".to_owned())].into(),
            ..Default::default()
        };
        assert_eq!(limits(&asked, &host).expect("valid"), want);
        let without = HostFacts { swap_accounting: false, hugetlb: Hugetlb::Ignored, ..host };
        let want = Resources { memory_swap: None, hugepages: Default::default(), ..want };
        assert_eq!(limits(&asked, &without).expect("valid"), want);
    }
}
