//! Figures of the kernel and of records, put under the names of their metrics.

use cricket_cgroup::{CpuDetails, Details, DeviceIo, MemoryDetails};
use cricket_cri_api::v1;
use cricket_oci::oci_spec::runtime::Spec;

use super::descriptors as d;
use super::sheet::Sheet;
use crate::netstat::Counters;

const SECOND: u64 = 1_000_000_000;

/// What the container's cgroup counts.
pub(super) fn cgroup(sheet: &mut Sheet, details: &Details, device_name: impl Fn(u32, u32) -> String) {
    if let Some(figures) = &details.cpu {
        cpu(sheet, figures);
    }
    if let Some(figures) = &details.memory {
        memory(sheet, figures);
    }
    for device in &details.io {
        io(sheet, device, &device_name(device.major, device.minor));
    }
    if let Some(tasks) = details.tasks {
        sheet.add(&d::THREADS, &[], tasks);
        sheet.add(&d::THREADS_MAX, &[], details.tasks_max.unwrap_or(0));
    }
}

fn cpu(sheet: &mut Sheet, figures: &CpuDetails) {
    sheet.add(&d::CPU_USAGE_SECONDS_TOTAL, &[], figures.usage / SECOND);
    sheet.add(&d::CPU_USER_SECONDS_TOTAL, &[], figures.user / SECOND);
    sheet.add(&d::CPU_SYSTEM_SECONDS_TOTAL, &[], figures.system / SECOND);
    if let Some(quota) = figures.throttling {
        sheet.add(&d::CPU_CFS_PERIODS_TOTAL, &[], quota.periods);
        sheet.add(&d::CPU_CFS_THROTTLED_PERIODS_TOTAL, &[], quota.throttled_periods);
        sheet.add(&d::CPU_CFS_THROTTLED_SECONDS_TOTAL, &[], quota.throttled / SECOND);
    }
}

fn memory(sheet: &mut Sheet, figures: &MemoryDetails) {
    sheet.add(&d::MEMORY_USAGE_BYTES, &[], figures.usage);
    sheet.maybe(&d::MEMORY_MAX_USAGE_BYTES, &[], figures.max_usage);
    sheet.add(&d::MEMORY_WORKING_SET_BYTES, &[], figures.working_set);
    sheet.add(&d::MEMORY_RSS, &[], figures.rss);
    sheet.add(&d::MEMORY_CACHE, &[], figures.cache);
    sheet.add(&d::MEMORY_MAPPED_FILE, &[], figures.mapped_file);
    sheet.add(&d::MEMORY_TOTAL_ACTIVE_FILE_BYTES, &[], figures.active_file);
    sheet.add(&d::MEMORY_TOTAL_INACTIVE_FILE_BYTES, &[], figures.inactive_file);
    sheet.maybe(&d::MEMORY_KERNEL_USAGE, &[], figures.kernel);
    sheet.maybe(&d::MEMORY_SWAP, &[], figures.swap);
    // Its description promises a figure on v2 too, where nothing counts this.
    sheet.add(&d::MEMORY_FAILCNT, &[], figures.failures.unwrap_or(0));
    sheet.add(&d::MEMORY_FAILURES_TOTAL, &["pgfault", "container"], figures.page_faults);
    sheet.add(&d::MEMORY_FAILURES_TOTAL, &["pgmajfault", "container"], figures.major_page_faults);
    sheet.maybe(&d::OOM_EVENTS_TOTAL, &[], figures.oom_kills);
}

fn io(sheet: &mut Sheet, device: &DeviceIo, name: &str) {
    let (major, minor) = (device.major.to_string(), device.minor.to_string());
    for (operation, bytes) in &device.bytes {
        sheet.add(&d::BLKIO_DEVICE_USAGE_TOTAL, &[name, &major, &minor, operation], *bytes);
    }
    sheet.maybe(&d::FS_READS_BYTES_TOTAL, &[name], device.bytes.get("Read").copied());
    sheet.maybe(&d::FS_WRITES_BYTES_TOTAL, &[name], device.bytes.get("Write").copied());
    sheet.maybe(&d::FS_READS_TOTAL, &[name], device.operations.get("Read").copied());
    sheet.maybe(&d::FS_WRITES_TOTAL, &[name], device.operations.get("Write").copied());
}

/// What it was given.
pub(super) fn resources(sheet: &mut Sheet, resources: &v1::LinuxContainerResources, spec: &Spec) {
    // 0: not set.
    let given = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    sheet.maybe(&d::SPEC_CPU_PERIOD, &[], given(resources.cpu_period));
    sheet.maybe(&d::SPEC_CPU_SHARES, &[], given(resources.cpu_shares));
    sheet.maybe(&d::SPEC_MEMORY_LIMIT_BYTES, &[], given(resources.memory_limit_in_bytes));
    sheet.maybe(&d::SPEC_MEMORY_SWAP_LIMIT_BYTES, &[], given(resources.memory_swap_limit_in_bytes));
    let memory = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()?.memory().as_ref());
    sheet.maybe(
        &d::SPEC_MEMORY_RESERVATION_LIMIT_BYTES,
        &[],
        memory.and_then(|memory| memory.reservation()).and_then(given),
    );
    for limit in spec.process().iter().filter_map(|process| process.rlimits().as_ref()).flatten() {
        sheet.add(&d::ULIMITS_SOFT, &[&limit.typ().to_string()], limit.soft());
    }
}

/// What an interface of the pod counts.
pub(super) fn network(sheet: &mut Sheet, counters: &Counters) {
    let name = &[counters.name.as_str()];
    sheet.add(&d::NETWORK_RECEIVE_BYTES_TOTAL, name, counters.received.bytes);
    sheet.add(&d::NETWORK_RECEIVE_PACKETS_TOTAL, name, counters.received.packets);
    sheet.add(&d::NETWORK_RECEIVE_PACKETS_DROPPED_TOTAL, name, counters.received.dropped);
    sheet.add(&d::NETWORK_RECEIVE_ERRORS_TOTAL, name, counters.received.errors);
    sheet.add(&d::NETWORK_TRANSMIT_BYTES_TOTAL, name, counters.sent.bytes);
    sheet.add(&d::NETWORK_TRANSMIT_PACKETS_TOTAL, name, counters.sent.packets);
    sheet.add(&d::NETWORK_TRANSMIT_PACKETS_DROPPED_TOTAL, name, counters.sent.dropped);
    sheet.add(&d::NETWORK_TRANSMIT_ERRORS_TOTAL, name, counters.sent.errors);
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
