//! Kills for want of memory: told from others, and known when the cgroup is gone already.

use std::path::Path;
use std::time::Duration;

use cricket_runtime::monitor::MonitorEvent;
use rustix::process::{Pid, Signal, kill_process};

use crate::faults::adoption;
use crate::support::{Pod, TestCgroup, kill, until};

/// A line that does not end is kept; should nothing limit it, not for ever.
const EAT: &str = "(ulimit -v 400000; exec tail /dev/zero)";

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a PID"), signal).expect("signal");
}

#[tokio::test]
async fn a_kill_by_the_kernel_is_told_from_another() {
    let mut pod = Pod::start().await;
    for (name, script, expected) in
        [("a", "ulimit -v 400000; exec tail /dev/zero".to_owned(), true), ("b", "kill -9 $$".to_owned(), false)]
    {
        let cgroup = TestCgroup::with_memory(&pod.sandbox);
        let mut request = pod.request(name, &format!("{}; {script}", cgroup.join()), &[]);
        request.container.cgroup = Some(cgroup.cgroup());
        pod.client.run(request).await.expect("run");
        let (_, facts) = pod.exit().await;
        assert_eq!((facts.exit_code, facts.oom_killed), (137, expected), "{name}");
    }
}

#[tokio::test]
async fn a_kill_beside_the_init_counts_as_well() {
    let mut pod = Pod::start().await;
    let cgroup = TestCgroup::with_memory(&pod.sandbox);
    let mut request = pod.request("a", &format!("{}; {EAT}; exit 3", cgroup.join()), &[]);
    request.container.cgroup = Some(cgroup.cgroup());
    pod.client.run(request).await.expect("run");
    let (_, facts) = pod.exit().await;
    assert_eq!((facts.exit_code, facts.oom_killed), (3, true));
}

/// As with systemd, which removes a scope with its last process: here always before the monitor can look.
#[tokio::test]
async fn a_kill_is_remembered_when_the_cgroup_is_gone() {
    if Path::new("/sys/fs/cgroup/memory").exists() {
        return crate::support::skip("cgroup v1 has no events of memory that are a cgroup's own");
    }
    for (adopted, killed) in [(false, true), (true, true), (false, false)] {
        let mut pod = Pod::start().await;
        let cgroup = TestCgroup::with_memory(&pod.sandbox);
        let (go, done) = (pod.dir.path().join("go"), pod.dir.path().join("done"));
        let eat = if killed { EAT } else { "true" };
        let script = format!(
            "{}; while [ ! -e {} ]; do sleep 0.01; done; {eat}; : > {}; while :; do sleep 1000; done",
            cgroup.join(),
            go.display(),
            done.display()
        );
        let mut request = pod.request("a", &script, &[]);
        request.container.cgroup = Some(cgroup.cgroup());
        let started = pod.client.run(request).await.expect("run");
        let pid = started.pid;
        if adopted {
            kill(pod.client.pid());
            assert_eq!(pod.events.recv().await, Some(MonitorEvent::Gone));
            pod.replace().await;
            let mut adoption = adoption(&pod, started);
            adoption.container.cgroup = Some(cgroup.cgroup());
            pod.client.adopt(adoption).await.expect("adopt");
        }
        std::fs::write(&go, b"").expect("go");
        until("it went on", || done.exists()).await;
        // The kernel holds an event back for 10 ms after the one before it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        pod.client.list().await.expect("the monitor has seen all that was there");

        let monitor = pod.client.pid();
        signal(monitor, Signal::STOP);
        kill(pid);
        cgroup.remove();
        assert!(!cgroup.0.exists());
        signal(monitor, Signal::CONT);
        let (_, facts) = pod.exit().await;
        // Kernels before 6.15 do not tell how one ended that was adopted and reaped meanwhile.
        assert!(facts.exit_code == 137 || adopted && facts.unknown, "{facts:?}");
        assert_eq!(facts.oom_killed, killed, "adopted: {adopted}");
    }
}

/// Both scopes of a pod go before the monitor can look, and only the pod's slice says that there was a kill.
#[tokio::test]
async fn of_two_that_vanish_at_once_it_is_the_one_that_was_killed() {
    if Path::new("/sys/fs/cgroup/memory").exists() {
        return crate::support::skip("cgroup v1 has no events of memory that are a cgroup's own");
    }
    for names in [["failed", "killed"], ["killed", "failed"]] {
        let mut pod = Pod::start().await;
        let uid = format!("{:0>32}", pod.sandbox.short());
        let slice = TestCgroup::made(Path::new("/sys/fs/cgroup").join(format!("cricket-pod{uid}.slice")));
        std::fs::write(slice.0.join("cgroup.subtree_control"), "+memory").expect("a memory controller");
        let go = pod.dir.path().join("go");
        let mut scopes = Vec::new();
        for name in names {
            let scope = TestCgroup::made(slice.0.join(format!("{name}.scope")));
            scope.limit_memory();
            let end = if name == "killed" { "ulimit -v 400000; exec tail /dev/zero" } else { "exit 1" };
            let wait = format!("while [ ! -e {} ]; do sleep 0.01; done", go.display());
            let mut request = pod.request(name, &format!("{}; {wait}; {end}", scope.join()), &[]);
            request.container.cgroup = Some(scope.cgroup());
            pod.client.run(request).await.expect("run");
            until("it is in its scope", || !scope.is_empty()).await;
            scopes.push(scope);
        }
        signal(pod.client.pid(), Signal::STOP);
        std::fs::write(&go, b"").expect("go");
        until("both ended", || scopes.iter().all(TestCgroup::is_empty)).await;
        scopes.iter().for_each(TestCgroup::remove);
        assert!(scopes.iter().all(|scope| !scope.0.exists()));
        signal(pod.client.pid(), Signal::CONT);
        let mut ends = Vec::new();
        for _ in names {
            let (name, facts) = pod.exit().await;
            ends.push((name, facts.exit_code, facts.oom_killed));
        }
        ends.sort();
        assert_eq!(ends, [("failed".to_owned(), 1, false), ("killed".to_owned(), 137, true)]);
    }
}

/// A file that can be read no more is ready for ever.
#[tokio::test]
async fn a_cgroup_that_goes_costs_nothing() {
    if Path::new("/sys/fs/cgroup/memory").exists() {
        return crate::support::skip("cgroup v1 has no events of memory that are a cgroup's own");
    }
    let mut pod = Pod::start().await;
    let cgroup = TestCgroup::with_memory(&pod.sandbox);
    // It is counted where the container is not.
    let mut request = pod.request("a", &format!("sh -c '{}; {EAT}'; while :; do sleep 1000; done", cgroup.join()), &[]);
    request.container.cgroup = Some(cgroup.cgroup());
    let started = pod.client.run(request).await.expect("run");
    let events = || std::fs::read_to_string(cgroup.0.join("memory.events")).unwrap_or_default();
    until("the kill", || events().contains("oom_kill 1")).await;
    cgroup.remove();
    let monitor = pod.client.pid();
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{monitor}/stat")).expect("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        fields[11].parse::<u64>().expect("user") + fields[12].parse::<u64>().expect("system")
    };
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ticks() - before < 20, "it waits, it does not spin");
    kill(started.pid);
    assert!(pod.exit().await.1.oom_killed);
}
