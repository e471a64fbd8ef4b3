//! Sessions on a container's stdio: output to all of them and the log, input from any, and how they end.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cricket_runtime::monitor::{AttachRequest, DetachReason, MonitorError, RunRequest, Session};
use cricket_wire::Code;

use crate::support::{PATIENCE, Pod, content, kill, until};

/// A session's ends.
struct Attached {
    stdin: Option<PipeWriter>,
    stdout: PipeReader,
    session: Session,
}

async fn attach(pod: &Pod, container: &str, stdin: bool) -> Result<Attached, MonitorError> {
    let (stdout, theirs) = std::io::pipe().expect("pipe");
    let (their_stdin, our_stdin) = std::io::pipe().expect("pipe");
    let request = AttachRequest {
        container: container.to_owned(),
        stdin: stdin.then(|| OwnedFd::from(their_stdin)),
        stdout: Some(theirs.into()),
        stderr: None,
    };
    let session = pod.client.attach(request).await?;
    Ok(Attached { stdin: stdin.then_some(our_stdin), stdout, session })
}

impl Attached {
    async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut stdout = self.stdout.try_clone().expect("dup");
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            stdout.read_exact(&mut bytes).map(|()| bytes)
        });
        tokio::time::timeout(PATIENCE, read).await.expect("in time").expect("join").expect("read")
    }

    async fn rest(&mut self) -> Vec<u8> {
        let mut stdout = self.stdout.try_clone().expect("dup");
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        tokio::time::timeout(PATIENCE, read).await.expect("in time").expect("join").expect("read")
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("stdin").write_all(bytes).expect("write");
    }

    async fn ended(self) -> DetachReason {
        tokio::time::timeout(PATIENCE, self.session.ended()).await.expect("in time").expect("ended")
    }
}

fn with_stdin(pod: &Pod, container: &str, script: &str, once: bool) -> RunRequest {
    let mut request = pod.request(container, script, &[]);
    (request.container.stdin, request.container.stdin_once) = (true, once);
    request
}

#[tokio::test]
async fn all_sessions_and_the_log_get_everything_to_the_end() {
    let mut pod = Pod::start().await;
    pod.client
        .run(with_stdin(&pod, "a", "while read line; do echo got $line; done; echo end", false))
        .await
        .expect("run");
    let mut first = attach(&pod, "a", true).await.expect("attach");
    let mut second = attach(&pod, "a", true).await.expect("attach");
    first.write(b"one\n");
    assert_eq!(first.read(8).await, b"got one\n");
    assert_eq!(second.read(8).await, b"got one\n");
    second.write(b"two\n");
    assert_eq!(first.read(8).await, b"got two\n");
    assert_eq!(second.read(8).await, b"got two\n");
    // Input that is kept for other sessions does not end with one of them, but that session does.
    first.stdin = None;
    assert_eq!(first.rest().await, b"");
    assert_eq!(first.ended().await, DetachReason::InputEnded);
    second.write(b"three\n");
    assert_eq!(second.read(10).await, b"got three\n");
    pod.client.close_stdin("a").await.expect("close");
    assert_eq!(second.rest().await, b"end\n");
    assert_eq!(second.ended().await, DetachReason::Ended);
    assert_eq!(pod.exit().await.1.exit_code, 0);
    let log = std::fs::read(pod.log_file("a")).expect("log");
    assert_eq!(content(&log, "stdout"), b"got one\ngot two\ngot three\nend\n");
    let refused = attach(&pod, "a", true).await.err().expect("it has ended");
    assert!(matches!(refused, MonitorError::Refused { code: Code::Conflict, .. }), "{refused}");
    let refused = attach(&pod, "b", true).await.err().expect("there is none");
    assert!(matches!(refused, MonitorError::Refused { code: Code::NotFound, .. }), "{refused}");
}

#[tokio::test]
async fn input_for_one_session_ends_with_the_first() {
    let mut pod = Pod::start().await;
    let mut started = pod.client.run(with_stdin(&pod, "a", "cat; echo end", true)).await.expect("run");
    // What a daemon does before it attaches: its own writing end is no reason to keep the input open.
    started.stdio.clear();
    // Sessions without input change nothing.
    drop(attach(&pod, "a", false).await.expect("attach"));
    let mut watcher = attach(&pod, "a", true).await.expect("attach");
    let mut first = attach(&pod, "a", true).await.expect("attach");
    first.write(b"x\n");
    assert_eq!(first.read(2).await, b"x\n");
    // A daemon that starts again meanwhile gets no writing end.
    let handles = pod.client.handles("a").await.expect("handles");
    assert!(handles.stdio.iter().all(|(stream, _)| *stream != cricket_runtime::monitor::Stream::Stdin));
    first.stdin = None;
    // The output goes on until the container ends, for both.
    assert_eq!(first.rest().await, b"end\n");
    assert_eq!(watcher.rest().await, b"x\nend\n");
    assert_eq!((first.ended().await, watcher.ended().await), (DetachReason::Ended, DetachReason::Ended));
    pod.exit().await;
}

#[tokio::test]
async fn a_long_input_arrives_whole() {
    let mut pod = Pod::start().await;
    let sum = pod.dir.path().join("sum");
    pod.client
        .run(with_stdin(&pod, "a", &format!("cksum > {}", sum.display()), true))
        .await
        .expect("run")
        .stdio
        .clear();
    let mut session = attach(&pod, "a", true).await.expect("attach");
    let mut stdin = session.stdin.take().expect("stdin");
    let size = 64usize << 20;
    let writer = tokio::task::spawn_blocking(move || {
        let block: Vec<u8> = (0..=255u8).cycle().take(1 << 20).collect();
        (0..size >> 20).try_for_each(|_| stdin.write_all(&block))
    });
    writer.await.expect("join").expect("write");
    assert_eq!(session.ended().await, DetachReason::Ended);
    pod.exit().await;
    let text = std::fs::read_to_string(sum).expect("read");
    let expected = std::process::Command::new("sh")
        .args(["-c", &format!("perl -e 'print pack(\"C*\", 0..255) x {}' | cksum", size / 256)])
        .output()
        .expect("cksum");
    assert_eq!(text.as_bytes(), expected.stdout);
}

#[tokio::test]
async fn output_is_not_lost_on_a_slow_session_and_a_stuck_one_is_ended() {
    let mut pod = Pod::start().await;
    let size = 4usize << 20;
    let script = format!("read go; head -c {size} /dev/zero | tr '\\0' 'x'; read go; echo end");
    pod.client.run(with_stdin(&pod, "a", &script, false)).await.expect("run");
    let mut reader = attach(&pod, "a", true).await.expect("attach");
    let stuck = attach(&pod, "a", false).await.expect("attach");
    let begin = Instant::now();
    reader.write(b"\n");
    let bytes = reader.read(size).await;
    assert!(bytes.iter().all(|byte| *byte == b'x'));
    // The others wait for one that takes nothing, and not for ever.
    assert!((Duration::from_secs(4)..Duration::from_secs(20)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(stuck.ended().await, DetachReason::Stuck);
    reader.write(b"\n");
    assert_eq!(reader.rest().await, b"end\n");
    pod.exit().await;
    assert_eq!(content(&std::fs::read(pod.log_file("a")).expect("log"), "stdout").len(), size + 4);
}

#[tokio::test]
async fn the_end_of_a_container_waits_for_no_session() {
    let mut pod = Pod::start().await;
    // More than the session's pipe holds, so that something is left when the container has ended.
    let script = "read go; head -c 100000 /dev/zero | tr '\\0' 'x'; exit 3";
    pod.client.run(with_stdin(&pod, "a", script, false)).await.expect("run");
    let mut session = attach(&pod, "a", true).await.expect("attach");
    let begin = Instant::now();
    session.write(b"\n");
    assert_eq!(pod.exit().await.1.exit_code, 3);
    // Less than what a session that takes nothing is given.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert_eq!(content(&std::fs::read(pod.log_file("a")).expect("log"), "stdout").len(), 100_000);
    assert_eq!(session.rest().await.len(), 100_000);
    assert_eq!(session.ended().await, DetachReason::Ended);
}

#[tokio::test]
async fn a_terminal_is_one_stream_with_input() {
    let mut pod = Pod::start().await;
    let script = "stty -echo; echo ready; read line; echo got $line >&2; stty size; exit 5";
    let mut request = pod.request("a", script, &["tty"]);
    (request.container.stdin, request.container.stdin_once, request.container.log) = (true, true, None);
    let started = pod.client.run(request).await.expect("run");
    let mut session = attach(&pod, "a", true).await.expect("attach");
    let other = attach(&pod, "a", true).await.expect("attach");
    // A session's end is not a terminal's.
    drop(other);
    let size = rustix::termios::Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&started.stdio[0].1, size).expect("resize");
    // Not before the shell has turned the echo off.
    tokio::time::sleep(Duration::from_millis(300)).await;
    session.write(b"word\n");
    let text = String::from_utf8(session.rest().await).expect("text");
    assert!(text.ends_with("got word\r\n33 101\r\n"), "{text:?}");
    assert_eq!(session.ended().await, DetachReason::Ended);
    assert_eq!(pod.exit().await.1.exit_code, 5);
}

#[tokio::test]
async fn a_container_without_input_keeps_dev_null() {
    let mut pod = Pod::start().await;
    let go = pod.dir.path().join("go");
    let script = format!("readlink /proc/$$/fd/0; while [ ! -e {} ]; do sleep 0.01; done; echo end", go.display());
    let mut request = pod.request("a", &script, &[]);
    (request.container.log, request.container.attachable) = (None, true);
    pod.client.run(request).await.expect("run");
    let mut session = attach(&pod, "a", true).await.expect("attach");
    let mut stdin = session.stdin.take().expect("stdin");
    until("nobody reads the session's input", || stdin.write_all(b"x").is_err()).await;
    std::fs::write(go, b"").expect("go");
    let text = session.rest().await;
    assert!(text.ends_with(b"end\n"), "{text:?}");
    assert_eq!(session.ended().await, DetachReason::Ended);
    pod.exit().await;
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("fds").count()
}

fn private_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps");
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn thousands_of_sessions_leave_nothing() {
    let pod = Pod::start().await;
    let mut request = pod.request("a", "exec sleep 600", &["tty"]);
    request.container.stdin = true;
    let started = pod.client.run(request).await.expect("run");
    let terminal = &started.stdio[0].1;
    let monitor = pod.client.pid();
    let cycle = async |n: u16| {
        let session = attach(&pod, "a", !n.is_multiple_of(3)).await.expect("attach");
        let size = rustix::termios::Winsize { ws_row: n % 50 + 1, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal, size).expect("resize");
        drop((session.stdin, session.stdout));
        session.session.ended().await.expect("ended");
    };
    for n in 0..100 {
        cycle(n).await;
    }
    let (fds, memory) = (descriptors(monitor), private_kib(monitor));
    for n in 0..5000 {
        cycle(n).await;
    }
    until("descriptors are closed", || descriptors(monitor) == fds).await;
    until("memory is given back", || private_kib(monitor) <= memory + 32).await;
    kill(started.pid);
}

#[tokio::test]
async fn sessions_are_bounded_and_end_with_a_daemon_that_dies() {
    let mut pod = Pod::start().await;
    pod.client.run(with_stdin(&pod, "a", "cat; echo end", true)).await.expect("run").stdio.clear();
    let fds = descriptors(pod.client.pid());
    let mut sessions = Vec::new();
    for _ in 0..64 {
        sessions.push(attach(&pod, "a", true).await.expect("attach"));
    }
    let refused = attach(&pod, "a", true).await.err().expect("one too many");
    assert!(matches!(refused, MonitorError::Refused { code: Code::Exhausted, .. }), "{refused}");
    // All descriptors of the daemon close: the container's input ends, as it was for one session only.
    drop(sessions);
    assert_eq!(pod.exit().await.1.exit_code, 0);
    until("descriptors are closed", || descriptors(pod.client.pid()) < fds).await;
    assert_eq!(content(&std::fs::read(pod.log_file("a")).expect("log"), "stdout"), b"end\n");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    use cricket_wire::{Attach, Request, RequestKind, Response, ResponseKind, packet};
    use std::os::fd::AsFd;
    let pod = Pod::start().await;
    let started = pod.run("a", "exec sleep 600").await;
    let socket = pod.socket();
    let null = File::open("/dev/null").expect("null");
    for streams in [&[][..], &[0, 1], &[3], &[1, 1]] {
        let attach = Attach { container_id: "a".into(), streams: streams.to_vec() };
        let fds = vec![null.as_fd(); if streams == [0, 1] { 1 } else { streams.len() }];
        packet::send(&socket, &Request { id: 1, kind: Some(RequestKind::Attach(attach)) }, &fds).expect("send");
        let (response, _) = packet::receive::<Response>(&socket, &mut [0; 4096]).expect("an answer");
        let Some(ResponseKind::Failed(failed)) = response.kind else { panic!("{streams:?}: {response:?}") };
        assert_eq!(failed.code(), Code::Invalid, "{streams:?}: {}", failed.message);
    }
    kill(started.pid);
}
