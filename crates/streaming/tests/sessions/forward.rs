//! Connections into a pod over SPDY.

use std::time::Duration;

use cricket_streaming::Config;

use super::backend::Node;
use super::spdy::{Client, End, connect};

pub(crate) const PROTOCOL: &str = "portforward.k8s.io";

/// Opens both streams of a connection, as Go's client does: error first, and its own half of that closed at once.
pub(crate) async fn dial<T>(client: &mut Client<T>, port: u16, id: &str) -> (u32, u32)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let port = port.to_string();
    let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", id)];
    let error = client.open(&headers("error")).await;
    client.send(error, &[], true).await.expect("sent");
    let data = client.open(&headers("data")).await;
    (error, data)
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    // The answer comes after the client's end.
    let (error, data) = dial(&mut client, 9, "0").await;
    client.send(data, b"twelve bytes", false).await.expect("sent");
    client.send(data, b"and some more", true).await.expect("sent");
    assert_eq!(client.until_ended(data).await, End::Fin);
    assert_eq!(client.until_ended(error).await, End::Fin);
    assert_eq!((client.text(data).as_str(), client.text(error).as_str()), ("25", ""));
    // The pod speaks first and closes; the client has not closed yet.
    let (_, data) = dial(&mut client, 13, "1").await;
    assert_eq!(client.until_ended(data).await, End::Fin);
    assert_eq!(client.text(data), "it is late");
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn many_connections_at_once() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    let mut streams = Vec::new();
    for id in 0..200 {
        streams.push(dial(&mut client, 7, &id.to_string()).await.1);
    }
    for round in 0..3 {
        for stream in &streams {
            client.send(*stream, format!("{stream}:{round};").as_bytes(), round == 2).await.expect("sent");
        }
    }
    for stream in &streams {
        assert_eq!(client.until_ended(*stream).await, End::Fin);
        assert_eq!(client.text(*stream), format!("{stream}:0;{stream}:1;{stream}:2;"));
    }
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn a_refused_port_is_told_and_others_go_on() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    let (error, data) = dial(&mut client, 1, "0").await;
    assert!(matches!(client.until_ended(data).await, End::Reset(_)));
    assert_eq!(client.until_ended(error).await, End::Fin);
    assert_eq!(client.text(error), "error forwarding port 1 to pod p: port 1: connection refused");
    let (_, data) = dial(&mut client, 13, "1").await;
    client.until_ended(data).await;
    assert_eq!(client.text(data), "it is late");
    for headers in [&[("streamtype", "data"), ("port", "0")][..], &[("streamtype", "data")], &[("port", "80")]] {
        let refused = client.open(headers).await;
        assert_eq!(client.ended.get(&refused), Some(&End::Reset(3)), "{headers:?}");
    }
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn a_reset_stream_takes_its_connection_along() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    let (error, data) = dial(&mut client, 7, "0").await;
    client.send(data, b"x", false).await.expect("sent");
    while client.text(data).is_empty() {
        client.frame().await.expect("echo");
    }
    let mut body = data.to_be_bytes().to_vec();
    body.extend(5u32.to_be_bytes());
    client.control(3, &body).await;
    assert_eq!(client.until_ended(error).await, End::Fin);
    drop(client);
    node.quiet().await;
}

/// What kubectl does whose local client has gone: it closes its half, and gives the stream up once it cannot pass on
/// what comes.
#[tokio::test]
async fn a_stream_that_is_reset_behind_its_end_takes_its_connection_along() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    let (error, data) = dial(&mut client, 19, "0").await;
    client.send(data, &[], true).await.expect("sent");
    while client.text(data).is_empty() {
        client.frame().await.expect("what the pod says");
    }
    let mut body = data.to_be_bytes().to_vec();
    body.extend(5u32.to_be_bytes());
    client.control(3, &body).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), client.until_ended(error)).await;
    assert_eq!(ended.expect("the pod is still listened to"), End::Fin);
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn streams_whose_half_is_closed_count_as_well() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    let mut open = async |n: u32| {
        let id = n.to_string();
        let stream = client.open(&[("streamtype", "data"), ("port", "7"), ("requestid", &id)]).await;
        let refused = client.ended.get(&stream) == Some(&End::Reset(3));
        if !refused {
            client.send(stream, &[], true).await.expect("sent");
        }
        refused
    };
    for n in 0..2000 {
        assert!(!open(n).await, "{n}");
    }
    assert!(open(2000).await, "waits with 2,000 others");
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn half_a_connection_does_not_wait_for_ever() {
    let config = Config { creation_timeout: Duration::from_millis(100), ..Config::default() };
    let node = Node::with(config).await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    let error = client.open(&[("streamtype", "error"), ("port", "7"), ("requestid", "0")]).await;
    assert!(matches!(client.until_ended(error).await, End::Reset(_)));
    assert_eq!(client.text(error), "the data stream was not opened in time");
    // The ID is free again.
    let (_, data) = dial(&mut client, 13, "0").await;
    client.until_ended(data).await;
    drop(client);
    node.quiet().await;
}
