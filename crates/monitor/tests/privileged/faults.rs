//! The daemon dies, the monitor dies, somebody talks nonsense.

use std::time::Duration;

use cricket_runtime::monitor::{
    AdoptRequest, ContainerPhase, ExitRecord, LogTarget, MonitorError, MonitorEvent, Started, Supervised,
};
use cricket_wire::packet;

use crate::support::{Pod, content, exists, kill, until};

#[tokio::test]
async fn a_daemon_that_dies_misses_nothing() {
    let mut pod = Pod::start().await;
    let go = pod.dir.path().join("go");
    let script = format!("echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two; exit 8", go.display());
    let started = pod.run("a", &script).await;
    let monitor = pod.client.pid();
    let other = Pod::start().await;
    // The last clone goes: the connection is closed, as by the death of a daemon.
    pod.client = other.client.clone();
    drop(started);
    std::fs::write(go, b"").expect("go");
    let record = pod.dir.path().join("a.exit");
    until("the record is written", || record.exists()).await;
    pod.reconnect().await.expect("reconnect");
    assert_eq!(pod.client.pid(), monitor);
    let facts = ExitRecord::read(&record).expect("read").expect("a record");
    assert_eq!(facts.exit_code, 8);
    let listed = loop {
        let list = pod.client.list().await.expect("list");
        if let ContainerPhase::Exited(facts) = list[0].phase {
            break facts;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(listed, facts);
    assert_eq!(content(&std::fs::read(pod.log_file("a")).expect("log"), "stdout"), b"one\ntwo\n");
}

pub(crate) fn adoption(pod: &Pod, started: Started) -> AdoptRequest {
    AdoptRequest {
        container: Supervised {
            container: "a".to_owned(),
            log: Some(LogTarget { directory: pod.log_dir(), path: "a/0.log".into(), max_line: 0 }),
            exit_path: Some(pod.dir.path().join("a.exit")),
            attachable: true,
            ..Supervised::default()
        },
        pid: started.pid,
        pidfd: started.pidfd,
        stdio: started.stdio,
        created_at: started.created_at,
    }
}

#[tokio::test]
async fn a_replacement_adopts_and_learns_the_exit_code() {
    let mut pod = Pod::start().await;
    let go = pod.dir.path().join("go");
    let script = format!("echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two; exit 9", go.display());
    let started = pod.run("a", &script).await;
    let (pid, created_at) = (started.pid, started.created_at);
    let log = pod.log_file("a");
    until("the first line", || std::fs::read(&log).is_ok_and(|log| !log.is_empty())).await;
    let old = pod.client.pid();
    kill(old);
    assert_eq!(pod.events.recv().await, Some(MonitorEvent::Gone));
    assert!(matches!(pod.client.list().await, Err(MonitorError::Lost)));
    until("it is reaped", || !std::path::Path::new(&format!("/proc/{old}")).exists()).await;
    assert!(exists(pid), "the container lives on");
    assert!(matches!(pod.reconnect().await, Err(MonitorError::NotRunning)));
    pod.replace().await;
    assert_ne!(pod.client.pid(), old);
    pod.client.adopt(adoption(&pod, started)).await.expect("adopt");
    assert_eq!(pod.client.list().await.expect("list")[0].phase, ContainerPhase::Running { pid });
    std::fs::write(go, b"").expect("go");
    let (_, facts) = pod.exit().await;
    assert_eq!((facts.exit_code, facts.unknown), (9, false));
    assert_eq!(facts.created_at, created_at);
    assert_eq!(content(&std::fs::read(log).expect("log"), "stdout"), b"one\ntwo\n");
}

#[tokio::test]
async fn one_that_ended_meanwhile_is_adopted_too() {
    let mut pod = Pod::start().await;
    let go = pod.dir.path().join("go");
    let started =
        pod.run("a", &format!("while [ ! -e {} ]; do sleep 0.01; done; echo end; exit 11", go.display())).await;
    let pid = started.pid;
    kill(pod.client.pid());
    assert_eq!(pod.events.recv().await, Some(MonitorEvent::Gone));
    std::fs::write(go, b"").expect("go");
    until("it has ended", || !exists(pid)).await;
    pod.replace().await;
    pod.client.adopt(adoption(&pod, started)).await.expect("adopt");
    let (_, facts) = pod.exit().await;
    assert_eq!((facts.exit_code, facts.unknown), (11, false));
    assert_eq!(content(&std::fs::read(pod.log_file("a")).expect("log"), "stdout"), b"end\n");
}

#[tokio::test]
async fn nonsense_is_survived() {
    let mut pod = Pod::start().await;
    for seed in 0..200u8 {
        let socket = pod.socket();
        let bytes: Vec<u8> = (0..200u8).map(|n| n.wrapping_mul(seed | 1).wrapping_add(seed)).collect();
        let _ = packet::send_bytes(&socket, &bytes, &[rustix::stdio::stdin()]);
    }
    // A request of the future is answered, not ignored.
    let socket = pod.socket();
    packet::send_bytes(&socket, &[0x08, 0x05, 0xfa, 0x3f, 0x00], &[]).expect("send");
    let (response, _) = packet::receive::<cricket_wire::Response>(&socket, &mut [0; 4096]).expect("an answer");
    assert_eq!(response.id, 5);
    let Some(cricket_wire::ResponseKind::Failed(failed)) = response.kind else { panic!("{response:?}") };
    assert_eq!(failed.code(), cricket_wire::Code::Unknown);
    pod.run("a", "exit 0").await;
    assert_eq!(pod.exit().await.1.exit_code, 0);
}
