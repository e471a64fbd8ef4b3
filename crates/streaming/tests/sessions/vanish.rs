//! Clients that go without a word, at every stage.

use std::time::Duration;

use cricket_streaming::Streams;

use super::backend::{Node, all, stdout};
use super::forward::{PROTOCOL, dial};
use super::spdy::connect;

const V4: &str = "v4.channel.k8s.io";

#[tokio::test]
async fn a_client_that_vanishes_takes_its_session_along() {
    let node = Node::start().await;
    for streams in 0..=4 {
        let mut client = connect(&node.exec(&["hang"], all()), V4).await;
        for kind in ["error", "stdin", "stdout", "stderr"].iter().take(streams) {
            client.open(&[("streamtype", kind)]).await;
        }
        drop(client);
        node.quiet().await;
    }
}

#[tokio::test]
async fn one_whose_input_nobody_reads() {
    let node = Node::start().await;
    let streams = Streams { stdin: true, stdout: true, ..Streams::default() };
    let mut client = connect(&node.exec(&["hang"], streams), V4).await;
    for kind in ["error", "stdin", "stdout"] {
        client.open(&[("streamtype", kind)]).await;
    }
    // Until every buffer on the way is full.
    while let Ok(sent) = tokio::time::timeout(Duration::from_millis(300), client.send(3, &[0; 32 << 10], false)).await {
        sent.expect("sent");
    }
    assert_eq!(node.fake.running(), 1);
    // A reset overtakes what was not read yet.
    rustix::net::sockopt::set_socket_linger(&client.io, Some(Duration::ZERO)).expect("set");
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn one_that_does_not_read_its_output() {
    let node = Node::start().await;
    let mut client = connect(&node.exec(&["yes"], stdout()), V4).await;
    for kind in ["error", "stdout"] {
        client.open(&[("streamtype", kind)]).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(node.fake.running(), 1);
    drop(client);
    node.quiet().await;
}

#[tokio::test]
async fn one_with_open_connections() {
    let node = Node::start().await;
    let mut client = connect(&node.forward(&[]), PROTOCOL).await;
    for id in 0..20 {
        let (_, data) = dial(&mut client, 7, &id.to_string()).await;
        client.send(data, b"x", false).await.expect("sent");
    }
    drop(client);
    node.quiet().await;
}
