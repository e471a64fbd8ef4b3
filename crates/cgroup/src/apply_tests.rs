use std::fs;
use std::path::Path;

use super::*;
use crate::{CgroupPath, Hierarchies, Hierarchy, Kind};

fn path() -> CgroupPath {
    "/pod/c".parse().expect("valid")
}

fn put(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir).expect("mkdir");
    for (name, value) in files {
        fs::write(dir.join(name), value).expect("write");
    }
}

fn v1(root: &Path) -> Cgroup {
    let list =
        ["cpu", "cpuset", "memory", "pids"].map(|c| Hierarchy { mount: root.join(c), kind: Kind::V1(vec![c.into()]) });
    put(
        &root.join("cpu/pod/c"),
        &[("cpu.shares", "1024"), ("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "-1")],
    );
    put(&root.join("cpuset/pod/c"), &[("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]);
    put(
        &root.join("memory/pod/c"),
        &[
            ("memory.limit_in_bytes", "1000"),
            ("memory.memsw.limit_in_bytes", "1000"),
            ("memory.soft_limit_in_bytes", "0"),
        ],
    );
    put(&root.join("pids/pod/c"), &[("pids.max", "max")]);
    Cgroup::open(&Hierarchies::new(Version::V1, list.into()), &path())
}

fn v2(root: &Path) -> Cgroup {
    put(
        &root.join("pod/c"),
        &[
            ("cpu.weight", "100"),
            ("cpu.max", "max 100000"),
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("memory.low", "0"),
            ("pids.max", "max"),
            ("memory.high", "max"),
        ],
    );
    Cgroup::open(&Hierarchies::new(Version::V2, vec![Hierarchy { mount: root.into(), kind: Kind::V2 }]), &path())
}

fn plan(group: &Cgroup, r: Resources) -> Vec<(String, String)> {
    let name = |s: Step| (s.file.file_name().expect("name").to_string_lossy().into_owned(), s.value);
    group.plan(&r).expect("plan").into_iter().map(name).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn v1_memory_order_follows_the_direction() {
    let dir = tempfile::tempdir().expect("tempdir");
    let group = v1(dir.path());
    let limits = |memory_limit, memory_swap| Resources { memory_limit, memory_swap, ..Default::default() };
    let (m, b) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    assert_eq!(plan(&group, limits(Some(2000), Some(3000))), pairs(&[(b, "3000"), (m, "2000")]));
    assert_eq!(plan(&group, limits(Some(2000), Some(-1))), pairs(&[(b, "-1"), (m, "2000")]));
    assert_eq!(plan(&group, limits(Some(500), Some(500))), pairs(&[(m, "500"), (b, "500")]));
    assert_eq!(plan(&group, limits(Some(2000), None)), pairs(&[(b, "2000"), (m, "2000")]));
    assert_eq!(plan(&group, limits(Some(900), None)), pairs(&[(m, "900")]));
    assert_eq!(plan(&group, limits(None, Some(1500))), pairs(&[(b, "1500")]));
    fs::remove_file(dir.path().join("memory/pod/c").join(b)).expect("rm");
    assert_eq!(plan(&group, limits(Some(2000), Some(3000))), pairs(&[(m, "2000")]));
}

#[test]
fn v2_conversions() {
    let dir = tempfile::tempdir().expect("tempdir");
    let group = v2(dir.path());
    let r = Resources {
        cpu_shares: Some(1024),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        memory_limit: Some(1000),
        memory_swap: Some(1500),
        memory_reservation: Some(10),
        pids_limit: Some(-1),
        ..Default::default()
    };
    let want = [
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("memory.swap.max", "500"),
        ("memory.max", "1000"),
        ("memory.low", "10"),
        ("pids.max", "max"),
    ];
    assert_eq!(plan(&group, r), pairs(&want));
    fs::write(dir.path().join("pod/c/cpu.max"), "20000 100000\n").expect("write");
    assert_eq!(
        plan(&group, Resources { cpu_period: Some(50_000), ..Default::default() }),
        pairs(&[("cpu.max", "20000 50000")])
    );
    assert_eq!(plan(&group, Resources { cpu_quota: Some(-1), ..Default::default() }), pairs(&[("cpu.max", "max")]));
    let bad = Resources { memory_limit: Some(1000), memory_swap: Some(500), ..Default::default() };
    assert!(matches!(group.apply(&bad), Err(Error::InvalidResource { .. })));
}

#[test]
fn writes_only_what_is_set() {
    let dir = tempfile::tempdir().expect("tempdir");
    let group = v2(dir.path());
    group
        .apply(&Resources { unified: [("memory.high".into(), "77".into())].into(), ..Default::default() })
        .expect("apply");
    assert_eq!(fs::read_to_string(dir.path().join("pod/c/memory.high")).expect("read"), "77");
    assert_eq!(fs::read_to_string(dir.path().join("pod/c/memory.max")).expect("read"), "max");
    assert!(group.plan(&Resources::default()).expect("plan").is_empty());
}

#[test]
fn a_failure_brings_everything_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let group = v1(dir.path());
    fs::remove_file(dir.path().join("pids/pod/c/pids.max")).expect("rm");
    let r = Resources {
        cpu_shares: Some(7),
        cpuset_cpus: Some("1".into()),
        memory_limit: Some(5),
        pids_limit: Some(3),
        ..Default::default()
    };
    let error = group.apply(&r).expect_err("no pids.max");
    assert!(error.to_string().contains("pids/pod/c/pids.max"), "{error}");
    let read = |f: &str| fs::read_to_string(dir.path().join(f)).expect("read");
    assert_eq!(read("cpu/pod/c/cpu.shares"), "1024");
    assert_eq!(read("cpuset/pod/c/cpuset.cpus"), "0-1");
    assert_eq!(read("memory/pod/c/memory.limit_in_bytes"), "1000");
}

#[test]
fn what_the_host_lacks_is_said() {
    let dir = tempfile::tempdir().expect("tempdir");
    let group = v1(dir.path());
    let huge = Resources { hugepages: [("2MB".into(), 0)].into(), ..Default::default() };
    assert!(group.apply(&huge).expect_err("no hugetlb").to_string().contains("hugetlb"));
    let unified = Resources { unified: [("memory.high".into(), "1".into())].into(), ..Default::default() };
    assert!(group.apply(&unified).expect_err("v1").to_string().contains("cgroup v2"));
}
