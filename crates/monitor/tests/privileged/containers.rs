//! Lives of containers: exit codes, order of events, what is held.

use std::fs::File;
use std::time::{Duration, Instant};

use cricket_runtime::monitor::{Blame, ContainerPhase, ExitRecord, MonitorError, MonitorEvent, Stream};
use cricket_wire::Code;

use crate::support::{Pod, TestCgroup, children, content, exists, kill, until};

#[tokio::test]
async fn exit_codes_and_signals() {
    let mut pod = Pod::start().await;
    for (script, code, signal) in
        [("exit 0", 0, None), ("exit 3", 3, None), ("kill -9 $$", 137, Some(9)), ("kill -TERM $$", 143, Some(15))]
    {
        for words in [&[][..], &["early"], &["late"]] {
            let container = format!("c{code}{}", words.concat());
            let started = pod.client.run(pod.request(&container, script, words)).await.expect("run");
            assert!(started.created_at > 0);
            let (who, facts) = pod.exit().await;
            assert_eq!((who.as_str(), facts.exit_code, facts.signal), (container.as_str(), code, signal));
            assert!(facts.finished_at > 0 && !facts.unknown && !facts.unrecorded && facts.bytes_lost == 0);
            let record = ExitRecord::read(&pod.dir.path().join(format!("{container}.exit"))).expect("read");
            assert_eq!(record, Some(facts));
            // The event comes after the init was reaped.
            assert!(!std::path::Path::new(&format!("/proc/{}", started.pid)).exists());
        }
    }
    assert_eq!(pod.client.list().await.expect("list").len(), 12);
    pod.client.forget("c3").await.expect("forget");
    pod.client.forget("c3").await.expect("forget again");
    assert_eq!(pod.client.list().await.expect("list").len(), 11);
}

#[tokio::test]
async fn failures_of_helpers_have_their_blame() {
    let pod = Pod::start().await;
    let failed = pod.client.run(pod.request("a", "x", &["fail"])).await.expect_err("refused");
    let MonitorError::Helper(failure) = failed else { panic!("{failed}") };
    assert_eq!((failure.blame, failure.shell_status), (Blame::Command, 127));
    assert_eq!(failure.message, "no such command: x");
    let failed = pod.client.run(pod.request("b", "x", &["crash"])).await.expect_err("crashed");
    let MonitorError::Helper(failure) = failed else { panic!("{failed}") };
    assert_eq!(
        (failure.blame, failure.message.as_str()),
        (Blame::Host, "the helper was killed by signal 6 without a report")
    );
    let mut request = pod.request("c", "exec sleep 600", &[]);
    request.container.log.as_mut().expect("log").path = "../outside.log".into();
    let failed = pod.client.run(request).await.expect_err("a log outside");
    assert!(matches!(failed, MonitorError::Refused { code: Code::Host, .. }), "{failed}");
    assert!(pod.client.list().await.expect("list").is_empty());
    // What the helper had made is gone as well.
    until("no child is left", || children(pod.client.pid()).is_empty()).await;
}

#[tokio::test]
async fn a_dropped_run_is_cancelled() {
    let pod = Pod::start().await;
    let hanging = pod.client.run(pod.request("a", "exit 0", &["hang"]));
    assert!(tokio::time::timeout(Duration::from_millis(200), hanging).await.is_err());
    until("the helper is killed", || children(pod.client.pid()).is_empty()).await;
    assert!(pod.client.list().await.expect("list").is_empty());
    let started = pod.run("a", "exec sleep 600").await;
    assert!(matches!(
        pod.client.run(pod.request("a", "exit 0", &[])).await,
        Err(MonitorError::Refused { code: Code::Conflict, .. })
    ));
    kill(started.pid);
}

#[tokio::test]
async fn what_a_container_leaves_behind_is_killed_and_orphans_are_reaped() {
    let mut pod = Pod::start().await;
    let cgroup = TestCgroup::new(&pod.sandbox);
    let mut request = pod.request("a", &format!("{}; for i in 1 2 3; do sleep 600 & done; exit 4", cgroup.join()), &[]);
    request.container.cgroup = Some(cgroup.cgroup());
    pod.client.run(request).await.expect("run");
    let begin = Instant::now();
    assert_eq!(pod.exit().await.1.exit_code, 4);
    assert!(cgroup.is_empty());
    // The sleeping ones hold the pipes; nobody waited for that.
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    until("orphans are reaped", || children(pod.client.pid()).is_empty()).await;
}

#[tokio::test]
async fn a_background_process_that_escaped_pins_nothing() {
    let mut pod = Pod::start().await;
    let file = pod.dir.path().join("pid");
    let script = format!("(while :; do echo noise; done) & echo $! > {}; echo last; exit 5", file.display());
    let begin = Instant::now();
    pod.run("a", &script).await;
    let (_, facts) = pod.exit().await;
    kill(std::fs::read_to_string(file).expect("pid").trim().parse().expect("a number"));
    assert_eq!(facts.exit_code, 5);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let log = std::fs::read(pod.log_file("a")).expect("log");
    assert!(content(&log, "stdout").windows(5).any(|window| window == b"last\n"));
}

#[tokio::test]
async fn standard_input_and_terminals() {
    let mut pod = Pod::start().await;
    let mut request = pod.request("in", "read line; echo got $line; cat >/dev/null; exit 6", &[]);
    request.container.stdin = true;
    let mut started = pod.client.run(request).await.expect("run");
    let kinds: Vec<Stream> = started.stdio.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(kinds, [Stream::Stdin, Stream::Stdout, Stream::Stderr]);
    rustix::io::write(&started.stdio[0].1, b"word\n").expect("write");
    let handles = pod.client.handles("in").await.expect("handles");
    assert_eq!(handles.stdio.len(), 3);
    assert!(handles.pidfd.is_some());
    drop((handles, started.stdio.drain(..)));
    pod.client.close_stdin("in").await.expect("close");
    assert_eq!(pod.exit().await.1.exit_code, 6);
    assert_eq!(content(&std::fs::read(pod.log_file("in")).expect("log"), "stdout"), b"got word\n");

    let started =
        pod.client.run(pod.request("tty", "test -t 1 && test -t 2 && echo yes", &["tty"])).await.expect("run");
    assert!(matches!(started.stdio[..], [(Stream::Terminal, _)]));
    assert_eq!(pod.exit().await.1.exit_code, 0);
    assert_eq!(content(&std::fs::read(pod.log_file("tty")).expect("log"), "stdout"), b"yes\r\n");
}

#[tokio::test]
async fn held_descriptors_are_named_and_given_back() {
    let mut pod = Pod::start().await;
    let namespace = || File::open("/proc/self/ns/net").expect("open").into();
    let named =
        pod.client.hold(vec![("net".to_owned(), namespace()), ("uts".to_owned(), namespace())]).await.expect("hold");
    assert_eq!(named.len(), 2);
    let link = |path: &std::path::Path| std::fs::read_link(path).expect("link");
    assert_eq!(link(&named[0].1), link("/proc/self/ns/net".as_ref()));
    pod.reconnect().await.expect("reconnect");
    let held = pod.client.held().await.expect("held");
    assert_eq!(held.iter().map(|held| held.name.as_str()).collect::<Vec<_>>(), ["net", "uts"]);
    assert_eq!(link(&held[1].path), link("/proc/self/ns/net".as_ref()));
}

#[tokio::test]
async fn leaves_when_nothing_runs() {
    let mut pod = Pod::start().await;
    let started = pod.run("a", "exec sleep 600").await;
    assert!(matches!(pod.client.leave().await, Err(MonitorError::Refused { code: Code::Conflict, .. })));
    kill(started.pid);
    pod.exit().await;
    pod.client.leave().await.expect("leave");
    assert_eq!(pod.events.recv().await, Some(MonitorEvent::Gone));
    until("the process ends", || !exists(pod.client.pid())).await;
    assert!(matches!(pod.reconnect().await, Err(MonitorError::NotRunning)));
}

#[tokio::test]
async fn runs_detached_under_its_name() {
    let pod = Pod::start().await;
    let pid = pod.client.pid();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("comm"), "cricket-monitor\n");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    assert_eq!(fields[3], pid.to_string(), "it leads a session");
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(pod.pod_dir().join("monitor.sock")).expect("stat"));
    assert_eq!(mode & 0o777, 0o600);
    let started = pod.run("a", "exec sleep 600").await;
    let running = pod.client.list().await.expect("list");
    assert_eq!(running[0].phase, ContainerPhase::Running { pid: started.pid });
    // Nothing of the test's or the monitor's reaches the container.
    until("it has executed", || {
        std::fs::read_to_string(format!("/proc/{}/comm", started.pid)).is_ok_and(|comm| comm == "sleep\n")
    })
    .await;
    let fds = std::fs::read_dir(format!("/proc/{}/fd", started.pid)).expect("fds").count();
    assert_eq!(fds, 3);
    kill(started.pid);
}
