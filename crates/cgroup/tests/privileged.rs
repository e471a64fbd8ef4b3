//! The host's own hierarchies: wants root. Every cgroup has a name of its own and is removed again.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cricket_cgroup::{Cgroup, CgroupPath, Error, Hierarchies, Resources, StatsReader, Version};

static COUNT: AtomicU32 = AtomicU32::new(0);

fn hierarchies() -> Hierarchies {
    Hierarchies::detect().expect("cgroups are mounted")
}

fn top() -> CgroupPath {
    let name = format!("/cricket-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    name.parse().expect("path")
}

/// Removed at the end, also when the test fails.
struct Guard(Cgroup);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        let _ = self.0.wait_empty(Duration::from_secs(5));
        let _ = self.0.remove();
    }
}

fn group() -> Guard {
    let path = top().child("pod").and_then(|p| p.child("c")).expect("path");
    Guard(Cgroup::create(&hierarchies(), &path).expect("create"))
}

/// A shell in the cgroup that runs a script.
fn run_in(group: &Cgroup, script: &str) -> Child {
    let mut child =
        Command::new("/bin/sh").args(["-c", &format!("read go; {script}")]).stdin(Stdio::piped()).spawn().expect("sh");
    for hierarchy in group.hierarchies().all() {
        let dir = group.path().under(&hierarchy.mount);
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).expect("join");
    }
    child.stdin.take().expect("stdin").write_all(b"go\n").expect("go");
    child
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn ancestors_that_were_made_go_with_the_last_child() {
    let hierarchies = hierarchies();
    let top = top();
    let (one, two) = (top.child("one").expect("path"), top.child("two").expect("path"));
    let ancestors = hierarchies.all().iter().map(|h| h.mount.join(top.as_str().trim_start_matches('/')));
    let missing: Vec<PathBuf> = ancestors.filter(|dir| !dir.exists()).collect();
    assert_eq!(missing.len(), hierarchies.all().len());
    let one = Cgroup::create(&hierarchies, &one).expect("create");
    let two = Cgroup::create(&hierarchies, &two).expect("create");
    assert!(one.exists() && two.exists());
    assert!(missing.iter().all(|dir| dir.exists()));
    one.remove().expect("remove");
    assert!(missing.iter().all(|dir| dir.exists()), "the other one is still there");
    two.remove().expect("remove");
    assert!(missing.iter().all(|dir| !dir.exists()), "{missing:?}");
    two.remove().expect("removing again");
}

#[test]
fn ancestors_of_others_stay() {
    let hierarchies = hierarchies();
    let top = top();
    for hierarchy in hierarchies.all() {
        fs::create_dir(top.under(&hierarchy.mount)).expect("mkdir");
    }
    let group = Cgroup::create(&hierarchies, &top.child("c").expect("path")).expect("create");
    group.remove().expect("remove");
    let dirs: Vec<_> = hierarchies.all().iter().map(|h| top.under(&h.mount)).collect();
    assert!(dirs.iter().all(|dir| dir.exists()));
    dirs.iter().for_each(|dir| fs::remove_dir(dir).expect("rmdir"));
}

#[test]
fn a_process_joins_through_the_descriptors_of_every_hierarchy() {
    let Guard(group) = &group();
    let fds = group.join_fds().expect("fds");
    assert_eq!(fds.tasks.len() + usize::from(fds.directory.is_some()), group.hierarchies().all().len());
    let mut child = Command::new("/bin/sleep").arg("60").spawn().expect("sleep");
    for fd in fds.tasks {
        fs::File::from(fd).write_all(child.id().to_string().as_bytes()).expect("join");
    }
    // What the directory is opened for, CLONE_INTO_CGROUP, the exec helper's tests show.
    if let Some(directory) = fds.directory {
        let procs = format!("/proc/self/fd/{}/cgroup.procs", directory.as_raw_fd());
        fs::write(procs, child.id().to_string()).expect("join");
    }
    let own = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).expect("cgroup");
    assert!(own.lines().all(|l| l.ends_with(group.path().as_str())), "{own}");
    assert_eq!(group.procs().expect("procs"), [child.id() as i32]);
    group.kill_all().expect("kill");
    child.wait().expect("wait");
    assert!(group.is_empty().expect("empty"));
}

#[test]
fn limits_rise_and_fall_and_are_all_or_nothing() {
    let Guard(group) = &group();
    let memory = |limit, swap| Resources { memory_limit: Some(limit), memory_swap: Some(swap), ..Default::default() };
    let dir = group.memory_dir().expect("memory controller");
    let file = if group.hierarchies().version() == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" };
    let now = || fs::read_to_string(dir.join(file)).expect("read").trim().to_owned();
    for (limit, swap) in [(64 << 20, 64 << 20), (256 << 20, 512 << 20), (32 << 20, 32 << 20), (128 << 20, -1)] {
        group.apply(&memory(limit, swap)).expect("apply");
        assert_eq!(now(), limit.to_string());
    }
    let cpu =
        Resources { cpu_shares: Some(512), cpu_quota: Some(50_000), cpu_period: Some(100_000), ..Default::default() };
    group.apply(&cpu).expect("apply");
    let cpuset = Resources { cpuset_cpus: Some("0".into()), ..Default::default() };
    group.apply(&cpuset).expect("only a cpuset");
    // The last one fails: no such processor.
    let bad = Resources { memory_limit: Some(16 << 20), cpuset_cpus: Some("4000".into()), pids_limit: Some(7), ..cpu };
    let error = group.apply(&bad).expect_err("no such processor");
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
    assert_eq!(now(), (128 << 20).to_string());
    assert_eq!(fs::read_to_string(group.processes_dir().join("pids.max")).expect("read").trim(), "max");
}

#[test]
fn everything_is_killed_however_fast_it_forks() {
    let Guard(group) = &group();
    group.apply(&Resources { pids_limit: Some(200), ..Default::default() }).expect("limit");
    let bomb = "trap '' TERM INT HUP; f() { while :; do (sleep 1 &) ; done; }; f & f & f & wait";
    let mut child = run_in(group, &format!("{bomb} 2>/dev/null"));
    wait_for("forks", || group.procs().expect("procs").len() > 50);
    group.kill_all().expect("kill");
    assert!(group.wait_empty(Duration::from_secs(10)).expect("wait"), "{:?}", group.procs());
    child.wait().expect("wait");
}

#[test]
fn a_leaf_is_killed_alone() {
    let Guard(group) = &group();
    let mut main = run_in(group, "sleep 60");
    let leaf = group.exec_leaf("exec-1").expect("leaf");
    let mut exec = run_in(group, "sleep 60 & sleep 60");
    fs::write(leaf.dir().join("cgroup.procs"), exec.id().to_string()).expect("join");
    let files = group.exec_files().expect("files");
    let (of_leaf, of_group) = (leaf.join_fds(&files).expect("fds"), group.join_fds().expect("fds"));
    assert_eq!(of_leaf.tasks.len(), of_group.tasks.len());
    assert_eq!(of_leaf.directory.is_some(), of_group.directory.is_some());
    wait_for("the exec", || leaf.procs().is_ok_and(|p| !p.is_empty()));
    leaf.kill_all().expect("kill");
    exec.wait().expect("wait");
    wait_for("the leaf", || leaf.procs().expect("procs").is_empty());
    leaf.remove().expect("remove");
    assert!(!leaf.dir().exists());
    assert!(group.procs().expect("procs").contains(&(main.id() as i32)));
    // A leaf that is left is removed with the cgroup; a living process in it prevents that.
    group.exec_leaf("exec-2").expect("leaf");
    assert!(matches!(group.exec_leaf("../x"), Err(Error::InvalidPath { .. })));
    group.kill_all().expect("kill");
    main.wait().expect("wait");
    group.remove().expect("remove");
    assert!(!group.exists());
}

#[test]
fn frozen_and_thawed() {
    let Guard(group) = &group();
    let mut child = run_in(group, "while :; do :; done");
    group.freeze().expect("freeze");
    assert!(group.is_frozen().expect("state"));
    group.thaw().expect("thaw");
    assert!(!group.is_frozen().expect("state"));
    group.freeze().expect("freeze");
    group.kill_all().expect("killing what is frozen");
    child.wait().expect("wait");
}

#[test]
fn kills_for_want_of_memory_are_counted() {
    let Guard(group) = &group();
    assert_eq!(group.oom_kills().expect("count"), Some(0));
    group
        .apply(&Resources { memory_limit: Some(8 << 20), memory_swap: Some(8 << 20), ..Default::default() })
        .expect("limit");
    let mut child = run_in(group, "x=$(head -c 64000000 /dev/zero | tr '\\0' x); echo ${#x}");
    child.wait().expect("wait");
    assert!(group.oom_kills().expect("count").is_some_and(|n| n > 0));
}

#[test]
fn statistics_move() {
    let Guard(group) = &group();
    group.apply(&Resources { memory_limit: Some(64 << 20), ..Default::default() }).expect("limit");
    let reader = StatsReader::open(group).expect("open");
    // What was charged before joining stays where it was.
    let mut child = run_in(group, "x=$(head -c 2000000 /dev/zero | tr '\\0' x); while :; do :; done");
    wait_for("memory", || reader.read().expect("read").memory.is_some_and(|m| m.rss_bytes > 1_000_000));
    wait_for("processor time", || {
        reader.read().expect("read").cpu.is_some_and(|c| c.usage_core_nano_seconds > 1_000_000)
    });
    let stats = reader.read().expect("read");
    let memory = stats.memory.expect("memory");
    assert!(memory.usage_bytes > 0 && memory.usage_bytes >= memory.working_set_bytes, "{memory:?}");
    assert_eq!(memory.available_bytes, Some((64 << 20) - memory.working_set_bytes));
    assert!(stats.process_count.is_some_and(|n| n >= 1) && stats.timestamp > 0);
    // The pod's are read the same way, and contain its containers'.
    let pod = Cgroup::open(group.hierarchies(), &group.path().as_str().trim_end_matches("/c").parse().expect("path"));
    let pod_cpu = pod.stats().expect("pod").cpu.expect("cpu").usage_core_nano_seconds;
    assert!(pod_cpu >= stats.cpu.expect("cpu").usage_core_nano_seconds);
    group.kill_all().expect("kill");
    child.wait().expect("wait");
    group.remove().expect("remove");
    let error = reader.read().expect_err("the cgroup is gone");
    assert!(error.is_gone(), "{error}");
    assert!(group.stats().expect_err("gone").is_gone());
}
