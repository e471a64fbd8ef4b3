//! Cgroup limits.

use cricket_oci::oci_spec::runtime::{Linux, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxPids};

use crate::api;
use crate::error::{Error, Result};

use super::named;

pub(super) fn apply(linux: &mut Linux, asked: &api::LinuxResources) -> Result<()> {
    let mut resources = linux.resources().clone().unwrap_or_default();
    if let Some(asked) = &asked.cpu {
        let mut cpu = resources.cpu().clone().unwrap_or_default();
        set_cpu(&mut cpu, asked);
        resources.set_cpu((cpu != LinuxCpu::default()).then_some(cpu));
    }
    if let Some(asked) = &asked.memory {
        let mut memory = (*resources.memory()).unwrap_or_default();
        set_memory(&mut memory, asked);
        resources.set_memory((memory != LinuxMemory::default()).then_some(memory));
    }
    let mut pages = resources.hugepage_limits().clone().unwrap_or_default();
    for asked in &asked.hugepage_limits {
        pages.retain(|other| *other.page_size() != asked.page_size);
        let mut limit = LinuxHugepageLimit::default();
        limit.set_page_size(asked.page_size.clone()).set_limit(i64::try_from(asked.limit).unwrap_or(i64::MAX));
        pages.push(limit);
    }
    resources.set_hugepage_limits((!pages.is_empty()).then_some(pages));
    if !asked.unified.is_empty() {
        let mut unified = resources.unified().clone().unwrap_or_default();
        unified.extend(asked.unified.clone());
        resources.set_unified(Some(unified));
    }
    if let Some(asked) = &asked.pids {
        let mut pids = LinuxPids::default();
        pids.set_limit(asked.limit);
        resources.set_pids((asked.limit >= 0).then_some(pids));
    }
    // An empty name takes a class away, which no container of ours has.
    if asked.blockio_class.as_ref().is_some_and(|class| !class.value.is_empty()) {
        return Err(Error::adjustment("block I/O class", "no classes are configured"));
    }
    linux.set_resources(Some(resources));
    if let Some(class) = &asked.rdt_class {
        let mut rdt = cricket_oci::oci_spec::runtime::LinuxIntelRdt::default();
        rdt.set_clos_id(Some(class.value.clone()));
        linux.set_intel_rdt((!class.value.is_empty()).then_some(rdt));
    }
    let rules = asked.devices.iter().map(rule).collect::<Result<Vec<_>>>()?;
    allow(linux, rules);
    Ok(())
}

/// Adds device rules after those that are there: later ones count.
pub(super) fn allow(linux: &mut Linux, rules: Vec<LinuxDeviceCgroup>) {
    if rules.is_empty() {
        return;
    }
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut all = resources.devices().clone().unwrap_or_default();
    all.extend(rules);
    resources.set_devices(Some(all));
    linux.set_resources(Some(resources));
}

fn rule(asked: &api::LinuxDeviceCgroup) -> Result<LinuxDeviceCgroup> {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(asked.allow)
        .set_typ((!asked.r#type.is_empty()).then(|| named("device rules", &asked.r#type)).transpose()?)
        .set_major(asked.major.map(|major| major.value))
        .set_minor(asked.minor.map(|minor| minor.value))
        .set_access((!asked.access.is_empty()).then(|| asked.access.clone()));
    Ok(rule)
}

fn set_cpu(cpu: &mut LinuxCpu, asked: &api::LinuxCpu) {
    if let Some(value) = asked.shares {
        cpu.set_shares(Some(value.value));
    }
    if let Some(value) = asked.quota {
        cpu.set_quota(Some(value.value));
    }
    if let Some(value) = asked.period {
        cpu.set_period(Some(value.value));
    }
    if let Some(value) = asked.realtime_runtime {
        cpu.set_realtime_runtime(Some(value.value));
    }
    if let Some(value) = asked.realtime_period {
        cpu.set_realtime_period(Some(value.value));
    }
    if !asked.cpus.is_empty() {
        cpu.set_cpus(Some(asked.cpus.clone()));
    }
    if !asked.mems.is_empty() {
        cpu.set_mems(Some(asked.mems.clone()));
    }
}

/// A memory limit alone is one of memory and swap together: containers do not swap unless told.
fn set_memory(memory: &mut LinuxMemory, asked: &api::LinuxMemory) {
    if let Some(value) = asked.limit.filter(|limit| limit.value != 0) {
        memory.set_limit(Some(value.value)).set_swap(Some(value.value));
    }
    if let Some(value) = asked.swap {
        memory.set_swap(Some(value.value));
    }
    if let Some(value) = asked.reservation {
        memory.set_reservation(Some(value.value));
    }
    if let Some(value) = asked.kernel {
        memory.set_kernel(Some(value.value));
    }
    if let Some(value) = asked.kernel_tcp {
        memory.set_kernel_tcp(Some(value.value));
    }
    if let Some(value) = asked.swappiness {
        memory.set_swappiness(Some(value.value));
    }
    if let Some(value) = asked.disable_oom_killer {
        memory.set_disable_oom_killer(Some(value.value));
    }
    if let Some(value) = asked.use_hierarchy {
        memory.set_use_hierarchy(Some(value.value));
    }
}
