//! Limits: CRI's resources as the specification has them, and updates of them. CRI's zero means "not given".

use std::collections::HashMap;

use cricket_cri_api::v1;
use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};

use crate::error::{Error, Result, shown};
use crate::input::{HostFacts, Hugetlb};

const FIELD: &str = "linux.resources";

/// CRI resources as the specification has them, for a new container and for an update alike; nothing that was not
/// given is set. Memory and swap limits are in bytes, CPU times in microseconds. `oom_score_adj` is no cgroup's: see
/// the process.
///
/// # Errors
/// A malformed value, or a limit that this host has no controller for.
pub fn linux_resources(resources: &v1::LinuxContainerResources, host: &HostFacts) -> Result<LinuxResources> {
    let mut out = LinuxResources::default();
    out.set_cpu(cpu(resources)?)
        .set_memory(memory(resources, host)?)
        .set_hugepage_limits(hugepages(&resources.hugepage_limits, host)?)
        .set_unified(unified(&resources.unified, host)?);
    Ok(out)
}

fn unsigned(name: &str, value: i64) -> Result<Option<u64>> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(Error::invalid(format!("{FIELD}.{name}"), format!("{value} is negative"))),
    }
}

fn cpu(resources: &v1::LinuxContainerResources) -> Result<Option<LinuxCpu>> {
    if resources.cpu_quota < -1 {
        return Err(Error::invalid(format!("{FIELD}.cpu_quota"), "is negative and not -1 (unlimited)"));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(unsigned("cpu_shares", resources.cpu_shares)?)
        .set_quota((resources.cpu_quota != 0).then_some(resources.cpu_quota))
        .set_period(unsigned("cpu_period", resources.cpu_period)?)
        .set_cpus(cpu_list("cpuset_cpus", &resources.cpuset_cpus)?)
        .set_mems(cpu_list("cpuset_mems", &resources.cpuset_mems)?);
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

/// The list format of cpuset(7): `0-3,7`.
fn cpu_list(name: &str, list: &str) -> Result<Option<String>> {
    let number = |s: &str| !s.is_empty() && s.len() <= 6 && s.bytes().all(|b| b.is_ascii_digit());
    let item = |s: &str| match s.split_once('-') {
        Some((low, high)) => number(low) && number(high),
        None => number(s),
    };
    match list {
        "" => Ok(None),
        list if list.split(',').all(item) => Ok(Some(list.to_owned())),
        _ => Err(Error::invalid(format!("{FIELD}.{name}"), format!("{} is not a list like 0-3,7", shown(list)))),
    }
}

/// With a memory limit alone, the limit of memory and swap together is the same: containers do not swap unless told.
fn memory(resources: &v1::LinuxContainerResources, host: &HostFacts) -> Result<Option<LinuxMemory>> {
    let (limit, swap) = (resources.memory_limit_in_bytes, resources.memory_swap_limit_in_bytes);
    for (name, value) in [("memory_limit_in_bytes", limit), ("memory_swap_limit_in_bytes", swap)] {
        if value < -1 {
            return Err(Error::invalid(format!("{FIELD}.{name}"), "is negative and not -1 (unlimited)"));
        }
    }
    if limit > 0 && swap > 0 && swap < limit {
        return Err(Error::invalid(
            format!("{FIELD}.memory_swap_limit_in_bytes"),
            "is the limit of memory and swap together and cannot be below the memory limit",
        ));
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit((limit != 0).then_some(limit));
    if host.swap_accounting {
        let swap = if swap == 0 { limit } else { swap };
        memory.set_swap((swap != 0).then_some(swap));
    }
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

/// Kubelets send a zero for every page size; what cannot be limited is worth an error only where more was asked for.
fn hugepages(limits: &[v1::HugepageLimit], host: &HostFacts) -> Result<Option<Vec<LinuxHugepageLimit>>> {
    match host.hugetlb {
        Hugetlb::Ignored => return Ok(None),
        Hugetlb::Missing if limits.iter().any(|limit| limit.limit > 0) => {
            let reason = "the hugetlb cgroup controller is missing and tolerate_missing_hugetlb_controller is false";
            return Err(Error::host(format!("{FIELD}.hugepage_limits"), reason));
        }
        Hugetlb::Missing => return Ok(None),
        Hugetlb::Enforced => {}
    }
    let mut out = Vec::new();
    for limit in limits {
        if !host.hugepage_sizes.contains(&limit.page_size) {
            if limit.limit == 0 {
                continue;
            }
            let field = format!("{FIELD}.hugepage_limits");
            return Err(Error::host(field, format!("no huge pages of size {}", shown(&limit.page_size))));
        }
        let mut page = LinuxHugepageLimit::default();
        page.set_page_size(limit.page_size.clone()).set_limit(i64::try_from(limit.limit).unwrap_or(i64::MAX));
        out.push(page);
    }
    Ok((!out.is_empty()).then_some(out))
}

/// `unified` names files of the container's own cgroup directory: no path, no control characters.
fn unified(values: &HashMap<String, String>, host: &HostFacts) -> Result<Option<HashMap<String, String>>> {
    if values.is_empty() {
        return Ok(None);
    }
    let field = || format!("{FIELD}.unified");
    if !host.cgroup_v2 {
        return Err(Error::host(field(), "it needs the unified cgroup hierarchy"));
    }
    for (key, value) in values {
        let file = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_');
        let shape = key.split_once('.').is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
        if !shape || !key.bytes().all(file) || key.starts_with("cgroup.") {
            return Err(Error::invalid(field(), format!("{} is not a controller's file", shown(key))));
        }
        if value.contains(['\n', '\0']) {
            return Err(Error::invalid(field(), format!("the value of {key} has more than one line")));
        }
    }
    Ok(Some(values.clone()))
}

/// `current` with every value that `update` sets replaced (UpdateContainerResources: zero and empty mean unchanged).
/// A memory limit alone is one of memory and swap together, as in [`linux_resources`].
pub fn merge_update(
    current: &v1::LinuxContainerResources,
    update: &v1::LinuxContainerResources,
) -> v1::LinuxContainerResources {
    let number = |new: i64, old: i64| if new == 0 { old } else { new };
    let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut merged = v1::LinuxContainerResources {
        cpu_period: number(update.cpu_period, current.cpu_period),
        cpu_quota: number(update.cpu_quota, current.cpu_quota),
        cpu_shares: number(update.cpu_shares, current.cpu_shares),
        memory_limit_in_bytes: number(update.memory_limit_in_bytes, current.memory_limit_in_bytes),
        oom_score_adj: number(update.oom_score_adj, current.oom_score_adj),
        cpuset_cpus: text(&update.cpuset_cpus, &current.cpuset_cpus),
        cpuset_mems: text(&update.cpuset_mems, &current.cpuset_mems),
        memory_swap_limit_in_bytes: number(update.memory_swap_limit_in_bytes, current.memory_swap_limit_in_bytes),
        hugepage_limits: current.hugepage_limits.clone(),
        unified: current.unified.clone(),
    };
    if update.memory_limit_in_bytes != 0 {
        merged.memory_swap_limit_in_bytes = update.memory_swap_limit_in_bytes;
    }
    for limit in &update.hugepage_limits {
        match merged.hugepage_limits.iter_mut().find(|known| known.page_size == limit.page_size) {
            Some(known) => known.limit = limit.limit,
            None => merged.hugepage_limits.push(limit.clone()),
        }
    }
    merged.unified.extend(update.unified.clone());
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory: i64, swap: i64) -> v1::LinuxContainerResources {
        v1::LinuxContainerResources {
            memory_limit_in_bytes: memory,
            memory_swap_limit_in_bytes: swap,
            ..Default::default()
        }
    }

    fn swap(memory: i64, swap: i64, swap_accounting: bool) -> Option<i64> {
        let host = HostFacts { swap_accounting, ..Default::default() };
        linux_resources(&limits(memory, swap), &host).unwrap().memory().as_ref().and_then(|memory| memory.swap())
    }

    #[test]
    fn containers_do_not_swap_unless_told() {
        assert_eq!(swap(100, 0, true), Some(100));
        assert_eq!(swap(100, 150, true), Some(150));
        assert_eq!(swap(100, -1, true), Some(-1));
        assert_eq!(swap(100, 150, false), None);
        assert_eq!(swap(0, 0, true), None);
    }

    #[test]
    fn huge_pages_are_limited_where_something_can() {
        let page = |size: &str, limit| v1::HugepageLimit { page_size: size.into(), limit };
        let made = |hugetlb, limits: Vec<v1::HugepageLimit>| {
            let host = HostFacts { hugetlb, hugepage_sizes: vec!["2MB".into()], ..Default::default() };
            let asked = v1::LinuxContainerResources { hugepage_limits: limits, ..Default::default() };
            let limits = linux_resources(&asked, &host)?.hugepage_limits().clone().unwrap_or_default();
            Result::Ok(limits.iter().map(|l| (l.page_size().clone(), l.limit())).collect::<Vec<_>>())
        };
        let (zero, some) = (page("2MB", 0), page("2MB", 4 << 20));
        let enforced = |limits: Vec<v1::HugepageLimit>| made(Hugetlb::Enforced, limits);
        assert_eq!(enforced(vec![zero.clone()]).unwrap(), [("2MB".to_owned(), 0)]);
        assert_eq!(enforced(vec![some.clone()]).unwrap(), [("2MB".to_owned(), 4 << 20)]);
        assert_eq!(enforced(vec![page("2MB", u64::MAX)]).unwrap(), [("2MB".to_owned(), i64::MAX)]);
        // A size that the kernel does not have: none of it can be used, more cannot be given.
        assert_eq!(enforced(vec![page("1GB", 0)]).unwrap(), []);
        assert!(matches!(enforced(vec![page("1GB", 1)]), Err(Error::Host { .. })));
        assert_eq!(made(Hugetlb::Ignored, vec![some.clone(), page("1GB", 1)]).unwrap(), []);
        assert_eq!(made(Hugetlb::Missing, vec![zero.clone()]).unwrap(), []);
        let refused = made(Hugetlb::Missing, vec![zero, some]).unwrap_err().to_string();
        assert!(refused.contains("hugepage_limits") && refused.contains("hugetlb"), "{refused}");
    }

    #[test]
    fn unified_names_files_of_controllers_and_needs_their_hierarchy() {
        let made = |cgroup_v2, key: &str, value: &str| {
            let asked = v1::LinuxContainerResources {
                unified: [(key.to_owned(), value.to_owned())].into(),
                ..Default::default()
            };
            let host = HostFacts { cgroup_v2, ..Default::default() };
            linux_resources(&asked, &host).map(|r| r.unified().clone().unwrap_or_default())
        };
        let written = made(true, "memory.high", "  10 ").unwrap();
        assert_eq!(written, [("memory.high".to_owned(), "  10 ".to_owned())].into());
        for key in
            ["../memory.max", "a/memory.max", "..", "..x", ".x", "memory.", "memory", "cgroup.procs", "a-b.c", ""]
        {
            assert!(matches!(made(true, key, "1"), Err(Error::Invalid { .. })), "{key:?}");
        }
        for value in ["1\n2", "\0"] {
            assert!(made(true, "memory.high", value).is_err(), "{value:?}");
        }
        let refused = made(false, "memory.high", "1").unwrap_err();
        assert!(matches!(&refused, Error::Host { .. }) && refused.to_string().contains("unified"), "{refused}");
    }

    #[test]
    fn a_new_memory_limit_alone_is_one_of_swap_too() {
        let merged = |update| {
            let merged = merge_update(&limits(100, 150), &update);
            (merged.memory_limit_in_bytes, merged.memory_swap_limit_in_bytes)
        };
        assert_eq!(merged(limits(120, 0)), (120, 0));
        assert_eq!(merged(limits(120, 130)), (120, 130));
        assert_eq!(merged(limits(0, 130)), (100, 130));
        assert_eq!(merged(limits(0, 0)), (100, 150));
    }

    #[test]
    fn nothing_given_sets_nothing() {
        let none = linux_resources(&Default::default(), &HostFacts::default()).unwrap();
        assert_eq!(none, LinuxResources::default());
    }

    #[test]
    fn zero_means_unchanged() {
        let page = |size: &str, limit| v1::HugepageLimit { page_size: size.into(), limit };
        let current = v1::LinuxContainerResources {
            cpu_shares: 10,
            cpuset_cpus: "0".into(),
            hugepage_limits: vec![page("2MB", 1)],
            unified: [("a.b".to_owned(), "1".to_owned())].into(),
            ..limits(100, 120)
        };
        assert_eq!(merge_update(&current, &Default::default()), current);
        let cpuset = v1::LinuxContainerResources { cpuset_cpus: "1".into(), ..Default::default() };
        let merged = merge_update(&current, &cpuset);
        assert_eq!(merged, v1::LinuxContainerResources { cpuset_cpus: "1".into(), ..current.clone() });
        let pages =
            v1::LinuxContainerResources { hugepage_limits: vec![page("1GB", 2), page("2MB", 3)], ..limits(200, 0) };
        let merged = merge_update(&current, &pages);
        assert_eq!(merged.hugepage_limits, [page("2MB", 3), page("1GB", 2)]);
        assert_eq!((merged.memory_limit_in_bytes, merged.memory_swap_limit_in_bytes), (200, 0));
    }
}
