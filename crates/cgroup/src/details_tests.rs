//! Both versions' files, written into a directory that stands for a mount.

use std::fs;
use std::path::Path;

use super::*;
use crate::{CgroupPath, Hierarchies, Hierarchy, Kind};

fn write(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).expect("directory");
    for (name, text) in files {
        fs::write(dir.join(name), text).expect("file");
    }
}

fn group(version: Version, mounts: &[(&Path, Kind)]) -> Cgroup {
    let list = mounts.iter().map(|(mount, kind)| Hierarchy { mount: (*mount).to_owned(), kind: kind.clone() });
    let path: CgroupPath = "/pod/c".parse().expect("path");
    Cgroup::open(&Hierarchies::new(version, list.collect()), &path)
}

fn figures(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

#[test]
fn v1_adds_up_what_its_hierarchies_say() {
    let top = tempfile::tempdir().expect("tempdir");
    let mount = |name: &str| top.path().join(name);
    let names = ["cpu", "cpuacct", "memory", "blkio", "pids"];
    let mounts: Vec<_> = names.iter().map(|name| (mount(name), Kind::V1(vec![(*name).to_owned()]))).collect();
    let group = group(Version::V1, &mounts.iter().map(|(m, k)| (m.as_path(), k.clone())).collect::<Vec<_>>());
    assert_eq!(group.details().expect("a group that is gone"), Details::default());

    let dir = |name: &str| mount(name).join("pod/c");
    write(&dir("cpu"), &[("cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 5000\nnr_bursts 0\n")]);
    write(&dir("cpuacct"), &[("cpuacct.usage", "7000000000\n"), ("cpuacct.stat", "user 400\nsystem 200\n")]);
    let stat = "cache 1\nrss 2\ntotal_cache 100\ntotal_rss 200\ntotal_mapped_file 30\ntotal_swap 9\ntotal_pgfault 70\n\
                total_pgmajfault 7\ntotal_inactive_file 40\ntotal_active_file 50\n";
    let memory = [
        ("memory.usage_in_bytes", "1000\n"),
        ("memory.max_usage_in_bytes", "2000\n"),
        ("memory.failcnt", "4\n"),
        ("memory.kmem.usage_in_bytes", "600\n"),
        ("memory.stat", stat),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
    ];
    write(&dir("memory"), &memory);
    let bytes = "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\n254:1 Read 512\nTotal 12800\n";
    let serviced = "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n";
    let recursive =
        [("blkio.throttle.io_service_bytes_recursive", bytes), ("blkio.throttle.io_serviced_recursive", serviced)];
    write(&dir("blkio"), &recursive);
    write(&dir("pids"), &[("pids.current", "5\n"), ("pids.max", "max\n")]);

    let details = group.details().expect("details");
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let throttling = Some(Throttling { periods: 10, throttled_periods: 3, throttled: 5000 });
    let cpu = CpuDetails { usage: 7_000_000_000, user: 400 * tick, system: 200 * tick, throttling };
    assert_eq!(details.cpu, Some(cpu));
    let memory = MemoryDetails {
        usage: 1000,
        max_usage: Some(2000),
        working_set: 960,
        rss: 200,
        cache: 100,
        mapped_file: 30,
        active_file: 50,
        inactive_file: 40,
        kernel: Some(600),
        swap: Some(9),
        failures: Some(4),
        page_faults: 70,
        major_page_faults: 7,
        oom_kills: Some(2),
    };
    assert_eq!(details.memory, Some(memory));
    let disk = DeviceIo {
        major: 8,
        minor: 0,
        bytes: figures(&[("Read", 4096), ("Write", 8192), ("Total", 12288)]),
        operations: figures(&[("Read", 1), ("Write", 2), ("Total", 3)]),
    };
    let other = DeviceIo { major: 254, minor: 1, bytes: figures(&[("Read", 512)]), ..DeviceIo::default() };
    assert_eq!(details.io, [disk, other]);
    assert_eq!((details.tasks, details.tasks_max), (Some(5), None));
}

#[test]
fn v2_reads_one_directory() {
    let top = tempfile::tempdir().expect("tempdir");
    let group = group(Version::V2, &[(top.path(), Kind::V2)]);
    let stat = "anon 200\nfile 100\nkernel 600\nkernel_stack 16\nfile_mapped 30\ninactive_file 40\nactive_file 50\n\
                pgfault 70\npgmajfault 7\n";
    let cpu = "usage_usec 7000\nuser_usec 4000\nsystem_usec 3000\nnr_periods 10\nnr_throttled 3\nthrottled_usec 5\n";
    let files = [
        ("cpu.stat", cpu),
        ("memory.current", "1000\n"),
        ("memory.peak", "2000\n"),
        ("memory.swap.current", "9\n"),
        ("memory.stat", stat),
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\n"),
        ("io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:1 \n"),
        ("pids.current", "5\n"),
        ("pids.max", "100\n"),
    ];
    write(&top.path().join("pod/c"), &files);
    let details = group.details().expect("details");
    let throttling = Some(Throttling { periods: 10, throttled_periods: 3, throttled: 5000 });
    assert_eq!(details.cpu, Some(CpuDetails { usage: 7_000_000, user: 4_000_000, system: 3_000_000, throttling }));
    let memory = details.memory.expect("memory");
    assert_eq!((memory.usage, memory.max_usage, memory.working_set), (1000, Some(2000), 960));
    assert_eq!((memory.kernel, memory.swap, memory.failures, memory.oom_kills), (Some(600), Some(9), None, Some(2)));
    let disk = &details.io[0];
    assert_eq!(disk.bytes, figures(&[("Read", 4096), ("Write", 8192), ("Discard", 0)]));
    assert_eq!(disk.operations, figures(&[("Read", 1), ("Write", 2), ("Discard", 0)]));
    assert_eq!(details.io[1], DeviceIo { major: 254, minor: 1, ..DeviceIo::default() });
    assert_eq!((details.tasks, details.tasks_max), (Some(5), Some(100)));
}

#[test]
fn nonsense_in_a_file_is_no_figure() {
    assert_eq!(line_v1("Total 5"), None);
    assert_eq!(line_v1("8:x Read 5"), None);
    assert!(io_v2("8 rbytes=1\nx:y rbytes=1\n").is_empty());
    assert_eq!(io_v2("8:0 rbytes=-1 cost.usage=5\n"), [DeviceIo { major: 8, ..DeviceIo::default() }]);
}
