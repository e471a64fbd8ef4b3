use std::collections::BTreeMap;

use cricket_cgroup::Throttling;
use cricket_oci::oci_spec::runtime::{PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, SpecBuilder};

use super::*;
use crate::netstat::Traffic;

fn sheet() -> Sheet {
    Sheet::new(["p", "ns", "c", "id", "image"].map(str::to_owned))
}

/// `name{own labels} value`, in the order they were added.
fn lines(sheet: Sheet) -> Vec<String> {
    let line = |metric: v1::Metric| {
        assert_eq!(metric.label_values[..5], ["p", "ns", "c", "id", "image"]);
        assert_eq!(metric.timestamp, 0);
        let value = metric.value.expect("a value").value;
        format!("{}{{{}}} {value}", metric.name, metric.label_values[5..].join(","))
    };
    sheet.done().into_iter().map(line).collect()
}

#[test]
fn processor_time_is_in_seconds() {
    let throttling = Some(Throttling { periods: 7, throttled_periods: 3, throttled: 2_500_000_000 });
    let cpu = CpuDetails { usage: 9_999_999_999, user: 6_000_000_000, system: 3_000_000_000, throttling };
    let mut sheet = sheet();
    cgroup(&mut sheet, &Details { cpu: Some(cpu), ..Details::default() }, |_, _| String::new());
    let expected = [
        "container_cpu_usage_seconds_total{} 9",
        "container_cpu_user_seconds_total{} 6",
        "container_cpu_system_seconds_total{} 3",
        "container_cpu_cfs_periods_total{} 7",
        "container_cpu_cfs_throttled_periods_total{} 3",
        "container_cpu_cfs_throttled_seconds_total{} 2",
    ];
    assert_eq!(lines(sheet), expected);
}

#[test]
fn memory_leaves_out_what_is_not_counted() {
    let figures = MemoryDetails { usage: 5, page_faults: 8, kernel: Some(3), ..MemoryDetails::default() };
    let mut sheet = sheet();
    memory(&mut sheet, &figures);
    let lines = lines(sheet);
    assert!(lines.contains(&"container_memory_usage_bytes{} 5".to_owned()), "{lines:?}");
    assert!(lines.contains(&"container_memory_failures_total{pgfault,container} 8".to_owned()), "{lines:?}");
    assert!(lines.contains(&"container_memory_failcnt{} 0".to_owned()), "{lines:?}");
    assert!(lines.contains(&"container_memory_kernel_usage{} 3".to_owned()), "{lines:?}");
    for absent in ["container_memory_swap", "container_memory_max_usage_bytes", "container_oom_events_total"] {
        assert!(!lines.iter().any(|line| line.starts_with(absent)), "{absent}: {lines:?}");
    }
}

#[test]
fn devices_have_names_and_operations() {
    let figures = |read, write| BTreeMap::from([("Read".to_owned(), read), ("Write".to_owned(), write)]);
    let device = DeviceIo { major: 8, minor: 1, bytes: figures(10, 20), operations: figures(1, 2) };
    let mut sheet = sheet();
    cgroup(&mut sheet, &Details { io: vec![device], ..Details::default() }, |major, minor| {
        format!("/d{major}.{minor}")
    });
    let expected = [
        "container_blkio_device_usage_total{/d8.1,8,1,Read} 10",
        "container_blkio_device_usage_total{/d8.1,8,1,Write} 20",
        "container_fs_reads_bytes_total{/d8.1} 10",
        "container_fs_writes_bytes_total{/d8.1} 20",
        "container_fs_reads_total{/d8.1} 1",
        "container_fs_writes_total{/d8.1} 2",
    ];
    assert_eq!(lines(sheet), expected);
}

#[test]
fn any_number_of_threads_is_zero() {
    let mut sheet = sheet();
    cgroup(&mut sheet, &Details { tasks: Some(4), ..Details::default() }, |_, _| String::new());
    assert_eq!(lines(sheet), ["container_threads{} 4", "container_threads_max{} 0"]);
}

#[test]
fn resources_that_were_not_asked_for_are_not_there() {
    let limit = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(100u64).hard(200u64);
    let process = ProcessBuilder::default().rlimits(vec![limit.build().expect("limit")]).build().expect("process");
    let spec = SpecBuilder::default().process(process).build().expect("spec");
    let asked =
        v1::LinuxContainerResources { cpu_period: 100_000, memory_swap_limit_in_bytes: -1, ..Default::default() };
    let mut sheet = sheet();
    resources(&mut sheet, &asked, &spec);
    assert_eq!(lines(sheet), ["container_spec_cpu_period{} 100000", "container_ulimits_soft{RLIMIT_NOFILE} 100"]);
}

#[test]
fn both_directions_of_an_interface() {
    let received = Traffic { bytes: 1, packets: 2, errors: 3, dropped: 4 };
    let sent = Traffic { bytes: 5, packets: 6, errors: 7, dropped: 8 };
    let mut sheet = sheet();
    network(&mut sheet, &Counters { name: "eth0".into(), received, sent });
    let lines = lines(sheet);
    assert_eq!(lines.len(), 8);
    assert!(lines.contains(&"container_network_receive_packets_dropped_total{eth0} 4".to_owned()), "{lines:?}");
    assert!(lines.contains(&"container_network_transmit_errors_total{eth0} 7".to_owned()), "{lines:?}");
}
