//! The metrics: names, labels and help texts are those of containerd 2.4, and so mostly of cAdvisor, because dashboards
//! and alerts name them.

use cricket_cri_api::v1;
use v1::MetricType;

/// What every metric is labelled with, before its own labels. Empty where it is about a whole pod.
pub(super) const LABELS: [&str; 5] = ["pod", "namespace", "container", "id", "image"];

/// One metric.
#[derive(Debug)]
pub(super) struct Descriptor {
    /// Its name.
    pub(super) name: &'static str,
    /// What it counts.
    pub(super) help: &'static str,
    /// Its labels after [`LABELS`].
    pub(super) labels: &'static [&'static str],
    /// Whether it only grows.
    pub(super) kind: MetricType,
}

/// All of them, as ListMetricDescriptors answers.
pub(super) fn all() -> Vec<v1::MetricDescriptor> {
    let descriptor = |metric: &&Descriptor| v1::MetricDescriptor {
        name: metric.name.to_owned(),
        help: metric.help.to_owned(),
        label_keys: LABELS.iter().chain(metric.labels).map(|label| (*label).to_owned()).collect(),
    };
    ALL.iter().map(descriptor).collect()
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal $labels:tt $help:literal;)*) => {
        $(pub(super) const $constant: Descriptor =
            Descriptor { name: $name, help: $help, labels: &$labels, kind: MetricType::$kind };)*
        const ALL: &[&Descriptor] = &[$(&$constant),*];
    };
}

metrics! {
    // Processor time.
    CPU_USER_SECONDS_TOTAL: Counter "container_cpu_user_seconds_total" []
        "Cumulative user CPU time consumed in seconds.";
    CPU_SYSTEM_SECONDS_TOTAL: Counter "container_cpu_system_seconds_total" []
        "Cumulative system CPU time consumed in seconds.";
    CPU_USAGE_SECONDS_TOTAL: Counter "container_cpu_usage_seconds_total" [] "Cumulative CPU time consumed in seconds.";
    CPU_CFS_PERIODS_TOTAL: Counter "container_cpu_cfs_periods_total" []
        "Number of elapsed enforcement period intervals.";
    CPU_CFS_THROTTLED_PERIODS_TOTAL: Counter "container_cpu_cfs_throttled_periods_total" []
        "Number of CPU throttled period intervals.";
    CPU_CFS_THROTTLED_SECONDS_TOTAL: Counter "container_cpu_cfs_throttled_seconds_total" []
        "Total time duration the container has been throttled.";
    // Memory.
    MEMORY_CACHE: Gauge "container_memory_cache" []
        "Number of bytes of memory used by the container for caching purposes.";
    MEMORY_RSS: Gauge "container_memory_rss" []
        "Size of RSS in bytes, total anonymous memory and [swap cache memory used by the container.";
    MEMORY_KERNEL_USAGE: Gauge "container_memory_kernel_usage" []
        "Size of kernel memory allocated to the container in bytes, includes page tables, socket buffers...";
    MEMORY_MAPPED_FILE: Gauge "container_memory_mapped_file" [] "Size of container's memory mapped files in bytes.";
    MEMORY_SWAP: Gauge "container_memory_swap" [] "Container swap usage in bytes.";
    MEMORY_FAILCNT: Counter "container_memory_failcnt" []
        "Number of times container memory usage has hit its cgroup v1 upper memory limit, for cg2 this value is not currently supported";
    MEMORY_USAGE_BYTES: Gauge "container_memory_usage_bytes" []
        "Current memory usage in bytes, including all memory regardless of when it was accessed";
    MEMORY_MAX_USAGE_BYTES: Gauge "container_memory_max_usage_bytes" []
        "Maximum container memory usage recorded in bytes";
    MEMORY_WORKING_SET_BYTES: Gauge "container_memory_working_set_bytes" []
        "Amount of memory that is actively used by the container, excluding cached memory.";
    MEMORY_TOTAL_ACTIVE_FILE_BYTES: Gauge "container_memory_total_active_file_bytes" []
        "Amount of cache memory bytes, in use by the container, in file on disk.";
    MEMORY_TOTAL_INACTIVE_FILE_BYTES: Gauge "container_memory_total_inactive_file_bytes" []
        "Amount of inactive cache memory bytes, for the container, in file on disk.";
    MEMORY_FAILURES_TOTAL: Counter "container_memory_failures_total" ["failure_type", "scope"]
        "Cumulative count of container memory allocation failures.";
    OOM_EVENTS_TOTAL: Counter "container_oom_events_total" []
        "Count of out of memory events observed for the container";
    // File systems, and what block devices did.
    FS_INODES_FREE: Gauge "container_fs_inodes_free" ["device"] "Number of available Inodes";
    FS_INODES_TOTAL: Gauge "container_fs_inodes_total" ["device"] "Number of Inodes";
    FS_LIMIT_BYTES: Gauge "container_fs_limit_bytes" ["device"]
        "Number of bytes that can be consumed by the container on this filesystem.";
    FS_USAGE_BYTES: Gauge "container_fs_usage_bytes" ["device"]
        "Number of bytes that are consumed by the container on this filesystem.";
    FS_READS_BYTES_TOTAL: Counter "container_fs_reads_bytes_total" ["device"] "Cumulative count of bytes read";
    FS_READS_TOTAL: Counter "container_fs_reads_total" ["device"] "Cumulative count of reads completed";
    FS_WRITES_BYTES_TOTAL: Counter "container_fs_writes_bytes_total" ["device"] "Cumulative count of bytes written";
    FS_WRITES_TOTAL: Counter "container_fs_writes_total" ["device"] "Cumulative count of writes completed";
    BLKIO_DEVICE_USAGE_TOTAL: Counter "container_blkio_device_usage_total" ["device", "major", "minor", "operation"]
        "Blkio device bytes usage";
    // Network.
    NETWORK_RECEIVE_BYTES_TOTAL: Counter "container_network_receive_bytes_total" ["interface"]
        "Cumulative count of bytes received";
    NETWORK_RECEIVE_PACKETS_TOTAL: Counter "container_network_receive_packets_total" ["interface"]
        "Cumulative count of packets received";
    NETWORK_RECEIVE_PACKETS_DROPPED_TOTAL: Counter "container_network_receive_packets_dropped_total" ["interface"]
        "Cumulative count of packets dropped while receiving";
    NETWORK_RECEIVE_ERRORS_TOTAL: Counter "container_network_receive_errors_total" ["interface"]
        "Cumulative count of errors encountered while receiving";
    NETWORK_TRANSMIT_BYTES_TOTAL: Counter "container_network_transmit_bytes_total" ["interface"]
        "Cumulative count of bytes transmitted";
    NETWORK_TRANSMIT_PACKETS_TOTAL: Counter "container_network_transmit_packets_total" ["interface"]
        "Cumulative count of packets transmitted";
    NETWORK_TRANSMIT_PACKETS_DROPPED_TOTAL: Counter "container_network_transmit_packets_dropped_total" ["interface"]
        "Cumulative count of packets dropped while transmitting";
    NETWORK_TRANSMIT_ERRORS_TOTAL: Counter "container_network_transmit_errors_total" ["interface"]
        "Cumulative count of errors encountered while transmitting";
    // Processes.
    PROCESSES: Gauge "container_processes" [] "Number of processes running inside the container.";
    FILE_DESCRIPTORS: Gauge "container_file_descriptors" [] "Number of open file descriptors for the container.";
    SOCKETS: Gauge "container_sockets" [] "Number of open sockets for the container.";
    THREADS_MAX: Gauge "container_threads_max" []
        "Maximum number of threads allowed inside the container, infinity if value is zero";
    THREADS: Gauge "container_threads" [] "Number of threads running inside the container";
    ULIMITS_SOFT: Gauge "container_ulimits_soft" ["ulimit"]
        "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice";
    // The container itself.
    LAST_SEEN: Gauge "container_last_seen" [] "Last time a container was seen by the exporter";
    START_TIME_SECONDS: Gauge "container_start_time_seconds" []
        "Start time of the container since unix epoch in seconds";
    // Its resources as they were asked for.
    SPEC_CPU_PERIOD: Gauge "container_spec_cpu_period" [] "CPU period of the container";
    SPEC_CPU_SHARES: Gauge "container_spec_cpu_shares" [] "CPU share of the container";
    SPEC_MEMORY_LIMIT_BYTES: Gauge "container_spec_memory_limit_bytes" [] "Memory limit for the container";
    SPEC_MEMORY_RESERVATION_LIMIT_BYTES: Gauge "container_spec_memory_reservation_limit_bytes" []
        "Memory reservation limit for the container";
    SPEC_MEMORY_SWAP_LIMIT_BYTES: Gauge "container_spec_memory_swap_limit_bytes" []
        "Memory swap limit for the container";
}

#[cfg(test)]
#[path = "descriptors_tests.rs"]
mod tests;
