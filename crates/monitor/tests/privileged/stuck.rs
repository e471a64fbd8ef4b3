//! A monitor that is stopped: nobody waits for it for ever, and it never serves beside its replacement.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use cricket_runtime::monitor::{MonitorError, kill_stuck};
use rustix::process::{Signal, pidfd_send_signal};

use crate::support::{Pod, exists, until};

fn stop(pod: &Pod) {
    pidfd_send_signal(pod.client.pidfd(), Signal::STOP).expect("stop");
}

#[tokio::test]
async fn short_requests_end() {
    let pod = Pod::start().await;
    stop(&pod);
    let begin = Instant::now();
    let (list, leave, forget) = tokio::join!(pod.client.list(), pod.client.leave(), pod.client.forget("a"));
    assert!(matches!(list, Err(MonitorError::TimedOut { request: "list", .. })));
    assert!(matches!(leave, Err(MonitorError::TimedOut { request: "leave", .. })));
    let forget = forget.expect_err("nobody answers").to_string();
    assert!(forget.contains("forget"), "{forget}");
    assert!((9..20).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn it_is_found_and_killed_before_it_is_replaced() {
    let mut pod = Pod::start().await;
    let old = pod.client.pid();
    stop(&pod);
    let begin = Instant::now();
    let Err(MonitorError::Stuck { pidfd, source }) = pod.reconnect().await else { panic!("not stuck") };
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(matches!(*source, MonitorError::TimedOut { request: "hello", .. }), "{source}");
    assert!(exists(old));
    kill_stuck(pidfd.as_fd()).await.expect("kill");
    assert!(!exists(old));
    until("it is reaped", || !std::path::Path::new(&format!("/proc/{old}")).exists()).await;
    kill_stuck(pidfd.as_fd()).await.expect("killing what has ended is fine");
    assert!(matches!(pod.reconnect().await, Err(MonitorError::NotRunning)));
    pod.replace().await;
    assert_ne!(pod.client.pid(), old);
    assert!(pod.client.list().await.expect("list").is_empty());
}
