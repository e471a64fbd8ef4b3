//! Execs: answers, deadlines, and what they leave.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use cricket_runtime::monitor::Blame;
use cricket_wire::{Exec, Request, RequestKind, Response, ResponseKind, packet};
use tokio::sync::oneshot;

use crate::support::{PATIENCE, Pod, TestCgroup, exists, kill, until};

async fn read(mut reader: std::io::PipeReader) -> Vec<u8> {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    read.await.expect("join").expect("read")
}

#[tokio::test]
async fn answers_with_the_exit_code_and_closes_the_streams() {
    let pod = Pod::start().await;
    for words in [&[][..], &["early"], &["late"], &["own", "early"]] {
        let (reader, writer) = std::io::pipe().expect("pipe");
        let exit = pod.client.exec(pod.exec("echo out; exit 7", words, writer.into())).await.expect("exec");
        assert_eq!((exit.exit_code, exit.signal, exit.timed_out), (7, None, false));
        assert_eq!(read(reader).await, b"out\n");
    }
    let (_reader, writer) = std::io::pipe().expect("pipe");
    let exit = pod.client.exec(pod.exec("x", &["fail"], writer.into())).await.expect("exec");
    let failure = exit.failure.expect("a failure");
    assert_eq!((failure.blame, failure.shell_status, exit.exit_code), (Blame::Command, 127, 127));
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group() {
    let pod = Pod::start().await;
    let leaf = TestCgroup::new(&pod.sandbox);
    let (reader, writer) = std::io::pipe().expect("pipe");
    let script = format!("{}; (setsid sleep 600 &); sleep 600", leaf.join());
    let mut request = pod.exec(&script, &[], writer.into());
    request.timeout = Some(Duration::from_millis(400));
    request.leaves = vec![leaf.0.clone()];
    let begin = Instant::now();
    let exit = pod.client.exec(request).await.expect("exec");
    assert!(exit.timed_out);
    assert_eq!((exit.exit_code, exit.failure), (137, None));
    assert!((Duration::from_millis(390)..Duration::from_secs(3)).contains(&begin.elapsed()));
    // All holders of the pipe are dead.
    assert_eq!(tokio::time::timeout(PATIENCE, read(reader)).await.expect("in time"), b"");
    until("the leaf is removed", || !leaf.0.exists()).await;
}

#[tokio::test]
async fn a_helper_that_hangs_is_timed_out_as_well() {
    let pod = Pod::start().await;
    let (_reader, writer) = std::io::pipe().expect("pipe");
    let mut request = pod.exec("exit 0", &["hang"], writer.into());
    request.timeout = Some(Duration::from_millis(100));
    let exit = pod.client.exec(request).await.expect("exec");
    assert!(exit.timed_out && exit.failure.is_none());
}

#[tokio::test]
async fn background_children_are_not_waited_for() {
    let pod = Pod::start().await;
    let (reader, writer) = std::io::pipe().expect("pipe");
    let exit = tokio::time::timeout(
        Duration::from_secs(5),
        pod.client.exec(pod.exec("sleep 600 & echo $!", &[], writer.into())),
    );
    assert_eq!(exit.await.expect("in time").expect("exec").exit_code, 0);
    let mut reader = std::io::BufReader::new(reader);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).expect("read");
    let pid = line.trim().parse().expect("a PID");
    assert!(exists(pid), "what is left in the background lives on");
    kill(pid);
}

async fn start(pod: &Pod, leaf: &TestCgroup) -> (tokio::task::JoinHandle<()>, u32) {
    let (_, writer) = std::io::pipe().expect("pipe");
    let (sender, started) = oneshot::channel();
    let mut request = pod.exec(&format!("{}; sleep 600; :", leaf.join()), &[], writer.into());
    request.leaves = vec![leaf.0.clone()];
    request.started = Some(sender);
    let client = pod.client.clone();
    let task = tokio::spawn(async move { drop(client.exec(request).await) });
    let pid = started.await.expect("started").pid;
    assert!(exists(pid));
    (task, pid)
}

#[tokio::test]
async fn a_dropped_exec_is_killed() {
    let pod = Pod::start().await;
    let leaf = TestCgroup::new(&pod.sandbox);
    let (task, pid) = start(&pod, &leaf).await;
    task.abort();
    until("it is killed", || !exists(pid)).await;
    until("its cgroup is removed", || !leaf.0.exists()).await;
}

#[tokio::test]
async fn execs_end_with_the_connection() {
    let pod = Pod::start().await;
    let leaf = TestCgroup::new(&pod.sandbox);
    let (_reader, writer) = std::io::pipe().expect("pipe");
    let request = pod.exec(&format!("{}; sleep 600; :", leaf.join()), &[], writer.into());
    let exec = Exec { args: vec!["helper".into()], leaves: vec![leaf.0.display().to_string()], ..Exec::default() };
    let socket = pod.socket();
    let fds = [&request.helper, &request.config, &request.stdin, &request.stdout, &request.stderr].map(|fd| fd.as_fd());
    packet::send(&socket, &Request { id: 1, kind: Some(RequestKind::Exec(exec)) }, &fds).expect("send");
    let (response, _) = packet::receive::<Response>(&socket, &mut [0; 4096]).expect("an answer");
    let Some(ResponseKind::ExecStarted(started)) = response.kind else { panic!("{response:?}") };
    let pid = started.pid.unsigned_abs();
    // Another connection that ends changes nothing.
    drop(pod.socket());
    pod.client.list().await.expect("list");
    assert!(exists(pid));
    drop(socket);
    until("it is killed", || !exists(pid)).await;
    until("its cgroup is removed", || !leaf.0.exists()).await;
}

#[tokio::test]
async fn a_terminal_comes_back() {
    let pod = Pod::start().await;
    let (_reader, writer) = std::io::pipe().expect("pipe");
    let (sender, started) = oneshot::channel();
    let mut request = pod.exec("read line; exit 9", &["tty"], writer.into());
    request.started = Some(sender);
    let client = pod.client.clone();
    let exec = tokio::spawn(async move { client.exec(request).await });
    let terminal = started.await.expect("started").terminal.expect("a terminal");
    rustix::io::write(&terminal, b"\n").expect("write");
    assert_eq!(exec.await.expect("join").expect("exec").exit_code, 9);
}

#[tokio::test]
async fn many_at_once() {
    let pod = Pod::start().await;
    let (_reader, writer) = std::io::pipe().expect("pipe");
    let fds = || std::fs::read_dir(format!("/proc/{}/fd", pod.client.pid())).expect("fds").count();
    let before = fds();
    let mut tasks = Vec::new();
    for n in 0..100 {
        let request = pod.exec(&format!("exit {n}"), &[], writer.try_clone().expect("clone").into());
        let client = pod.client.clone();
        tasks.push(tokio::spawn(async move { client.exec(request).await }));
    }
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.expect("join").expect("exec").exit_code, n as i32);
    }
    until("descriptors are closed", || fds() == before).await;
}
