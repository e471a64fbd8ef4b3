//! Containers that are made and then started, or not: the helper's end decides.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cricket_runtime::monitor::{Blame, ExitRecord, HelperFailure, MonitorError};

use crate::support::{Pod, TestCgroup, children, until};

/// Runs a container whose helper fails after its report: what the helper said, once nothing is left of the container.
async fn fails(pod: &mut Pod, script: &str, words: &[&str]) -> HelperFailure {
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", pod.client.pid())).expect("fds").count();
    // The log thread and its descriptors are made with the first container.
    let before = descriptors();
    let cgroup = TestCgroup::new(&pod.sandbox);
    let mut request = pod.request("a", &format!("{}; {script}", cgroup.join()), words);
    request.container.cgroup = Some(cgroup.cgroup());
    let record: PathBuf = request.container.exit_path.clone().expect("a record");
    let failed = pod.client.run(request).await.expect_err("not started");
    assert!(pod.client.list().await.expect("list").is_empty());
    until("the init is reaped", || children(pod.client.pid()).is_empty()).await;
    until("the cgroup is empty", || cgroup.is_empty()).await;
    until("descriptors are closed", || descriptors() <= before).await;
    // An event comes in order with answers: this one would be here by now.
    pod.client.list().await.expect("list");
    assert!(pod.events.try_recv().is_err());
    assert!(!record.exists());
    let MonitorError::Helper(failure) = failed else { panic!("{failed}") };
    failure
}

async fn used_pod() -> Pod {
    let mut pod = Pod::start().await;
    pod.run("first", "exit 0").await;
    pod.exit().await;
    pod.client.forget("first").await.expect("forget");
    pod
}

#[tokio::test]
async fn a_second_report_is_why_the_start_failed() {
    let mut pod = used_pod().await;
    for script in ["(setsid sleep 600 &); sleep 600", "exit 0"] {
        for words in [&["refuse"][..], &["refuse", "early"], &["refuse", "early", "tty"]] {
            let failure = fails(&mut pod, script, words).await;
            assert_eq!((failure.blame, failure.shell_status), (Blame::Command, 126));
            assert_eq!(failure.message, "exec format error");
        }
    }
    // The name is free again.
    pod.run("a", "exit 5").await;
    assert_eq!(pod.exit().await.1.exit_code, 5);
}

#[tokio::test]
async fn a_helper_that_fails_after_its_report_has_started_nothing() {
    let mut pod = used_pod().await;
    for script in ["(setsid sleep 600 &); sleep 600", "exit 0"] {
        for (word, how) in [("abort", "was killed by signal 6"), ("status", "exited with status 3")] {
            for words in [&[word][..], &[word, "early"]] {
                let failure = fails(&mut pod, script, words).await;
                assert_eq!(failure.blame, Blame::Host);
                assert_eq!(failure.message, format!("the helper {how} before the container was started"));
            }
        }
    }
}

#[tokio::test]
async fn an_init_that_ended_before_its_helper_is_started_then_exited() {
    let mut pod = Pod::start().await;
    // The helper ends 200 ms after its report; another one's end and orphans meanwhile change nothing.
    let begin = Instant::now();
    let early = pod.client.run(pod.request("early", "(sleep 0.01 &); exit 7", &["early"]));
    let other = pod.client.run(pod.request("other", "exit 8", &[]));
    let (early, other) = tokio::join!(early, other);
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    other.expect("run");
    // Its descriptors are whole although it has ended.
    assert_eq!(early.expect("run").stdio.len(), 2);
    let mut exits = [pod.exit().await, pod.exit().await];
    exits.sort_by_key(|(_, facts)| facts.exit_code);
    for ((who, facts), (name, code)) in exits.into_iter().zip([("early", 7), ("other", 8)]) {
        assert_eq!((who.as_str(), facts.exit_code, facts.unknown), (name, code, false));
        assert_eq!(ExitRecord::read(&pod.dir.path().join(format!("{name}.exit"))).expect("read"), Some(facts));
    }
    until("orphans are reaped", || children(pod.client.pid()).is_empty()).await;
}

#[tokio::test]
async fn a_run_is_cancelled_between_report_and_start() {
    let mut pod = used_pod().await;
    let mark = pod.dir.path().join("mark");
    let running = pod.request("a", &format!("echo $$ > {}; exec sleep 600", mark.display()), &["early"]);
    assert!(tokio::time::timeout(Duration::from_millis(100), pod.client.run(running)).await.is_err());
    assert!(mark.exists(), "the init was there");
    until("all is killed", || children(pod.client.pid()).is_empty()).await;
    assert!(pod.client.list().await.expect("list").is_empty());
    assert!(pod.events.try_recv().is_err());
}

#[tokio::test]
async fn an_order_without_a_process_is_no_container() {
    let pod = Pod::start().await;
    let failed = pod.client.run(pod.request("a", "x", &["nothing"])).await.expect_err("no process");
    let MonitorError::Helper(failure) = failed else { panic!("{failed}") };
    assert_eq!(failure.message, "the helper carried out an order that makes no process");
}
