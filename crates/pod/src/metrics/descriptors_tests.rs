//! The list of containerd 2.4.2 (`internal/cri/server/list_metric_descriptors.go`): name, labels after
//! the common ones, kind, help.

use super::*;

const CONTAINERD: &str = "\
container_blkio_device_usage_total|device,major,minor,operation|COUNTER|Blkio device bytes usage
container_cpu_cfs_periods_total||COUNTER|Number of elapsed enforcement period intervals.
container_cpu_cfs_throttled_periods_total||COUNTER|Number of CPU throttled period intervals.
container_cpu_cfs_throttled_seconds_total||COUNTER|Total time duration the container has been throttled.
container_cpu_system_seconds_total||COUNTER|Cumulative system CPU time consumed in seconds.
container_cpu_usage_seconds_total||COUNTER|Cumulative CPU time consumed in seconds.
container_cpu_user_seconds_total||COUNTER|Cumulative user CPU time consumed in seconds.
container_file_descriptors||GAUGE|Number of open file descriptors for the container.
container_fs_inodes_free|device|GAUGE|Number of available Inodes
container_fs_inodes_total|device|GAUGE|Number of Inodes
container_fs_limit_bytes|device|GAUGE|Number of bytes that can be consumed by the container on this filesystem.
container_fs_reads_bytes_total|device|COUNTER|Cumulative count of bytes read
container_fs_reads_total|device|COUNTER|Cumulative count of reads completed
container_fs_usage_bytes|device|GAUGE|Number of bytes that are consumed by the container on this filesystem.
container_fs_writes_bytes_total|device|COUNTER|Cumulative count of bytes written
container_fs_writes_total|device|COUNTER|Cumulative count of writes completed
container_last_seen||GAUGE|Last time a container was seen by the exporter
container_memory_cache||GAUGE|Number of bytes of memory used by the container for caching purposes.
container_memory_failcnt||COUNTER|Number of times container memory usage has hit its cgroup v1 upper memory limit, for cg2 this value is not currently supported
container_memory_failures_total|failure_type,scope|COUNTER|Cumulative count of container memory allocation failures.
container_memory_kernel_usage||GAUGE|Size of kernel memory allocated to the container in bytes, includes page tables, socket buffers...
container_memory_mapped_file||GAUGE|Size of container's memory mapped files in bytes.
container_memory_max_usage_bytes||GAUGE|Maximum container memory usage recorded in bytes
container_memory_rss||GAUGE|Size of RSS in bytes, total anonymous memory and [swap cache memory used by the container.
container_memory_swap||GAUGE|Container swap usage in bytes.
container_memory_total_active_file_bytes||GAUGE|Amount of cache memory bytes, in use by the container, in file on disk.
container_memory_total_inactive_file_bytes||GAUGE|Amount of inactive cache memory bytes, for the container, in file on disk.
container_memory_usage_bytes||GAUGE|Current memory usage in bytes, including all memory regardless of when it was accessed
container_memory_working_set_bytes||GAUGE|Amount of memory that is actively used by the container, excluding cached memory.
container_network_receive_bytes_total|interface|COUNTER|Cumulative count of bytes received
container_network_receive_errors_total|interface|COUNTER|Cumulative count of errors encountered while receiving
container_network_receive_packets_dropped_total|interface|COUNTER|Cumulative count of packets dropped while receiving
container_network_receive_packets_total|interface|COUNTER|Cumulative count of packets received
container_network_transmit_bytes_total|interface|COUNTER|Cumulative count of bytes transmitted
container_network_transmit_errors_total|interface|COUNTER|Cumulative count of errors encountered while transmitting
container_network_transmit_packets_dropped_total|interface|COUNTER|Cumulative count of packets dropped while transmitting
container_network_transmit_packets_total|interface|COUNTER|Cumulative count of packets transmitted
container_oom_events_total||COUNTER|Count of out of memory events observed for the container
container_processes||GAUGE|Number of processes running inside the container.
container_sockets||GAUGE|Number of open sockets for the container.
container_spec_cpu_period||GAUGE|CPU period of the container
container_spec_cpu_shares||GAUGE|CPU share of the container
container_spec_memory_limit_bytes||GAUGE|Memory limit for the container
container_spec_memory_reservation_limit_bytes||GAUGE|Memory reservation limit for the container
container_spec_memory_swap_limit_bytes||GAUGE|Memory swap limit for the container
container_start_time_seconds||GAUGE|Start time of the container since unix epoch in seconds
container_threads||GAUGE|Number of threads running inside the container
container_threads_max||GAUGE|Maximum number of threads allowed inside the container, infinity if value is zero
container_ulimits_soft|ulimit|GAUGE|Soft ulimit values for the container root process. Unlimited if -1, except priority and nice
";

#[test]
fn they_are_containerds() {
    let mut ours: Vec<String> =
        ALL.iter().map(|m| format!("{}|{}|{}|{}", m.name, m.labels.join(","), m.kind.as_str_name(), m.help)).collect();
    ours.sort();
    let mut theirs: Vec<_> = CONTAINERD.lines().collect();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

#[test]
fn labels_begin_with_the_common_ones() {
    let descriptors = all();
    assert_eq!(descriptors.len(), 49);
    for descriptor in &descriptors {
        assert_eq!(descriptor.label_keys[..5], ["pod", "namespace", "container", "id", "image"], "{}", descriptor.name);
    }
    let usage = descriptors.iter().find(|d| d.name == "container_blkio_device_usage_total").expect("a descriptor");
    assert_eq!(usage.label_keys[5..], ["device", "major", "minor", "operation"]);
}
