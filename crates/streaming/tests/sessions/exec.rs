//! Commands over SPDY.

use cricket_streaming::{AttachOrder, Config, Streams};
use std::time::{Duration, Instant};

use super::backend::{Node, all, stdout};
use super::spdy::{Client, End, connect};

const V4: &str = "v4.channel.k8s.io";

async fn open<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    client: &mut Client<T>,
    types: &[&str],
) -> Vec<u32> {
    let mut streams = Vec::new();
    for kind in types {
        streams.push(client.open(&[("streamtype", kind)]).await);
    }
    streams
}

#[tokio::test]
async fn outputs_end_before_the_status() {
    let node = Node::start().await;
    for (version, code, want) in [
        ("v4.channel.k8s.io", "0", r#"{"metadata":{},"status":"Success"}"#),
        ("v4.channel.k8s.io", "3", r#""causes":[{"reason":"ExitCode","message":"3"}]"#),
        ("v3.channel.k8s.io", "3", "command terminated with exit code 3"),
        ("v2.channel.k8s.io", "0", ""),
        ("channel.k8s.io", "4", "command terminated with exit code 4"),
    ] {
        let mut client = connect(&node.exec(&["say", code], all()), version).await;
        let streams = open(&mut client, &["error", "stdin", "stdout", "stderr"]).await;
        client.finish().await;
        let [error, _, out, err] = streams[..] else { panic!("{streams:?}") };
        assert_eq!((client.text(out), client.text(err)), ("to stdout".into(), "to stderr".into()));
        assert!(client.text(error).contains(want) && (want.is_empty() == client.text(error).is_empty()));
        for stream in [error, out, err] {
            assert_eq!(client.ended.get(&stream), Some(&End::Fin), "{version}");
        }
        assert!(client.goaway);
    }
    node.quiet().await;
}

#[tokio::test]
async fn standard_input_is_closed_on_its_own() {
    let node = Node::start().await;
    let streams = Streams { stdin: true, stdout: true, ..Streams::default() };
    let mut client = connect(&node.exec(&["count"], streams), V4).await;
    let streams = open(&mut client, &["error", "stdin", "stdout"]).await;
    for _ in 0..100 {
        client.send(streams[1], &[7; 30_000], false).await.expect("sent");
    }
    client.send(streams[1], &[], true).await.expect("sent");
    client.finish().await;
    assert_eq!(client.text(streams[2]), "3000000");
    node.quiet().await;
}

#[tokio::test]
async fn sizes_reach_the_terminal() {
    let node = Node::start().await;
    let streams = Streams { stdin: true, stdout: true, tty: true, stderr: false };
    let mut client = connect(&node.exec(&["sizes"], streams), V4).await;
    let streams = open(&mut client, &["error", "stdin", "stdout", "resize"]).await;
    client.send(streams[3], b"{\"Width\":80,\"Height\":24}\n", false).await.expect("sent");
    while client.text(streams[2]).is_empty() {
        client.frame().await.expect("output");
    }
    client.send(streams[3], b"{\"Width\":9,", false).await.expect("sent");
    client.send(streams[3], b"\"Height\":8}", true).await.expect("sent");
    client.finish().await;
    assert_eq!(client.text(streams[2]), "80x24;9x8;");
    node.quiet().await;
}

#[tokio::test]
async fn what_cannot_run_is_told() {
    let node = Node::start().await;
    let mut client = connect(&node.exec(&["nonsense"], stdout()), V4).await;
    let streams = open(&mut client, &["error", "stdout"]).await;
    client.finish().await;
    assert!(client.text(streams[0]).contains(r#"no such program: \"nonsense\""#), "{}", client.text(streams[0]));
    assert!(client.text(streams[0]).contains("InternalError"));

    let attach = AttachOrder { container: "stopped".into(), streams: stdout() };
    let mut client = connect(&node.server.attach(attach).expect("url"), V4).await;
    let streams = open(&mut client, &["error", "stdout"]).await;
    client.finish().await;
    assert!(client.text(streams[0]).contains("container is not running"));
    node.quiet().await;
}

#[tokio::test]
async fn streams_that_nobody_asked_for() {
    let node = Node::start().await;
    let mut client = connect(&node.exec(&["say", "0"], stdout()), V4).await;
    let unknown = client.open(&[("streamtype", "confetti")]).await;
    assert_eq!(client.ended.get(&unknown), Some(&End::Reset(3)));
    let error = client.open(&[("streamtype", "error")]).await;
    let twice = client.open(&[("streamtype", "error")]).await;
    assert!(matches!(client.until_ended(twice).await, End::Reset(_)));
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    client.send(stdin, b"nobody reads this", true).await.expect("sent");
    open(&mut client, &["stdout"]).await;
    client.finish().await;
    assert!(client.text(error).contains("Success"));
    node.quiet().await;
}

#[tokio::test]
async fn streams_that_do_not_come() {
    let config = Config { creation_timeout: Duration::from_millis(100), ..Config::default() };
    let node = Node::with(config).await;
    let mut client = connect(&node.exec(&["hang"], all()), V4).await;
    open(&mut client, &["error", "stdin"]).await;
    client.finish().await;
    assert!(client.goaway);
    node.quiet().await;
}

#[tokio::test]
async fn an_idle_session_is_ended_and_pings_keep_it() {
    let config = Config { idle_timeout: Duration::from_millis(1500), ..Config::default() };
    let node = Node::with(config).await;
    let mut client = connect(&node.exec(&["hang"], stdout()), V4).await;
    let streams = open(&mut client, &["error", "stdout"]).await;
    let begin = Instant::now();
    for ping in 0..6u32 {
        tokio::time::sleep(Duration::from_millis(350)).await;
        client.control(6, &(2 * ping + 1001).to_be_bytes()).await;
        while !client.replied.contains(&(2 * ping + 1001)) {
            client.frame().await.expect("answer");
        }
    }
    client.finish().await;
    assert!(begin.elapsed() > Duration::from_millis(3500), "{:?}", begin.elapsed());
    assert!(client.text(streams[0]).contains("cancelled"));
    node.quiet().await;
}

#[tokio::test]
async fn the_daemons_end_ends_sessions_politely() {
    let node = Node::start().await;
    let mut client = connect(&node.exec(&["hang"], stdout()), V4).await;
    let streams = open(&mut client, &["error", "stdout"]).await;
    let (server, fake) = (node.server.clone(), node.fake.clone());
    let ended = tokio::spawn(async move { server.shutdown().await });
    client.finish().await;
    assert!(client.text(streams[0]).contains("cancelled"));
    drop(client);
    ended.await.expect("ended");
    assert_eq!(fake.running(), 0);
    assert!(tokio::net::TcpStream::connect(node.server.base().trim_start_matches("http://")).await.is_err());
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_and_gone() {
    let node = Node::start().await;
    for frame in [
        &b"\x80\x03\x00\x01\x00\xff\xff\xff"[..],
        b"\x80\x02\x00\x06\x00\x00\x00\x04\0\0\0\x01",
        b"\0\0\0\0\0\0\0\x01x",
    ] {
        let mut client = connect(&node.exec(&["hang"], stdout()), V4).await;
        open(&mut client, &["error", "stdout"]).await;
        tokio::io::AsyncWriteExt::write_all(&mut client.io, frame).await.expect("sent");
        client.finish().await;
    }
    node.quiet().await;
}
