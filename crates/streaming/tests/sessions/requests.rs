//! Requests that get no session.

use super::backend::{Node, stdout};
use super::spdy::request;

const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";

#[tokio::test]
async fn only_a_fresh_token_opens_a_session() {
    let node = Node::start().await;
    let url = node.exec(&["say", "0"], stdout());
    let token = url.rsplit('/').next().expect("token");
    assert_eq!(token.len(), 22, "128 bits: {token}");
    let base = node.server.base();
    for path in ["exec/AAAAAAAAAAAAAAAAAAAAAA".to_owned(), "exec".into(), String::new(), format!("exec/{token}/x")] {
        let (_, head) = request(&format!("{base}/{path}"), SPDY).await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
    }
    let (_, first) = request(&url, SPDY).await;
    assert!(first.starts_with("HTTP/1.1 101 "), "{first}");
    let (_, second) = request(&url, SPDY).await;
    assert!(second.starts_with("HTTP/1.1 404 "), "{second}");
    // What an exec allowed is no attachment.
    let (_, other) = request(&node.exec(&["say", "0"], stdout()).replace("/exec/", "/attach/"), SPDY).await;
    assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
    node.quiet().await;
}

#[tokio::test]
async fn no_agreement_no_session() {
    let node = Node::start().await;
    for (headers, want) in [
        ("", "400"),
        ("Connection: Upgrade\r\nUpgrade: h2c\r\n", "400"),
        ("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n", "400"),
        ("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9.channel.k8s.io\r\n", "403"),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x\r\n", "400"),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", "400"),
    ] {
        let (_, head) = request(&node.exec(&["hang"], stdout()), headers).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {want} ")), "{headers:?}: {head}");
        let accepted = head.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io");
        assert_eq!(accepted, want == "403", "{head}");
        assert!(head.contains("connection: close\r\n"), "{head}");
    }
    // The first of the client's that the server knows.
    let asked = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9.channel.k8s.io, v3.channel.k8s.io\r\n\
                 X-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
    let (_, head) = request(&node.exec(&["hang"], stdout()), asked).await;
    assert!(head.contains("x-stream-protocol-version: v3.channel.k8s.io\r\n"), "{head}");
    assert_eq!(node.fake.running(), 0);
    node.quiet().await;
}

#[tokio::test]
async fn tokens_in_flight_are_bounded() {
    let node = Node::start().await;
    for _ in 0..1000 {
        node.exec(&["hang"], stdout());
    }
    let order = cricket_streaming::ExecOrder { container: "c".into(), command: vec![], streams: stdout() };
    let error = node.server.exec(order).expect_err("full");
    assert!(matches!(error, cricket_streaming::IssueError::TooMany), "{error}");
}
