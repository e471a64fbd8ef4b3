//! WebSocket clients.

use cricket_streaming::Streams;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::backend::{Node, all, stdout};
use super::forward::dial;
use super::spdy::{self, End};

async fn upgrade(url: &str, protocol: &str) -> (TcpStream, String) {
    let named = if protocol.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocol}\r\n") };
    let headers = format!(
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{named}"
    );
    spdy::request(url, &headers).await
}

async fn connect(url: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let (io, head) = upgrade(url, protocol).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // The example of RFC 6455, 1.3.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(head.contains(&format!("sec-websocket-protocol: {protocol}\r\n")), !protocol.is_empty(), "{head}");
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

/// Everything until the server's normal closure, by channel.
async fn finish(socket: &mut WebSocketStream<TcpStream>) -> [Vec<u8>; 5] {
    use base64::Engine;
    let mut channels: [Vec<u8>; 5] = Default::default();
    let mut closed = None;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) => channels[usize::from(bytes[0])].extend(&bytes[1..]),
            Message::Text(text) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(&text[1..]).expect("base64");
                channels[usize::from(text.as_bytes()[0] - b'0')].extend(bytes);
            }
            Message::Close(frame) => closed = frame.map(|f| f.code),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(closed, Some(CloseCode::Normal));
    channels
}

#[tokio::test]
async fn every_version_has_its_status() {
    let node = Node::start().await;
    for (protocol, json) in [
        ("v5.channel.k8s.io", true),
        ("v4.channel.k8s.io", true),
        ("v4.base64.channel.k8s.io", true),
        ("v3.channel.k8s.io", false),
        ("v2.base64.channel.k8s.io", false),
        ("channel.k8s.io", false),
        ("base64.channel.k8s.io", false),
        ("", false),
    ] {
        let mut socket = connect(&node.exec(&["say", "5"], all()), protocol).await;
        let [_, out, err, error, _] = finish(&mut socket).await;
        assert_eq!((&out[..], &err[..]), (&b"to stdout"[..], &b"to stderr"[..]), "{protocol}");
        let error = String::from_utf8(error).expect("text");
        let want = if json { r#""reason":"ExitCode","message":"5""# } else { "command terminated with exit code 5" };
        assert!(error.contains(want), "{protocol}: {error}");
    }
    node.quiet().await;
}

#[tokio::test]
async fn version_5_closes_standard_input() {
    let node = Node::start().await;
    let streams = Streams { stdin: true, stdout: true, ..Streams::default() };
    let mut socket = connect(&node.exec(&["count"], streams), "v5.channel.k8s.io").await;
    let mut message = vec![0; 30_001];
    for _ in 0..50 {
        socket.send(Message::binary(message.clone())).await.expect("sent");
    }
    // A message of several megabytes at once.
    message.resize(5_000_001, 0);
    socket.send(Message::binary(message)).await.expect("sent");
    socket.send(Message::binary(vec![255, 0])).await.expect("sent");
    let [_, out, _, _, _] = finish(&mut socket).await;
    assert_eq!(String::from_utf8(out).expect("text"), "6500000");
    node.quiet().await;
}

#[tokio::test]
async fn base64_carries_input_and_sizes() {
    let node = Node::start().await;
    let streams = Streams { stdin: true, stdout: true, tty: true, stderr: false };
    let mut socket = connect(&node.exec(&["sizes"], streams), "v4.base64.channel.k8s.io").await;
    // {"Width":9,"Height":1}
    socket.send(Message::text("4eyJXaWR0aCI6OSwiSGVpZ2h0IjoxfQ==")).await.expect("sent");
    assert_eq!(finish(&mut socket).await[1], b"9x1;");
    node.quiet().await;
}

#[tokio::test]
async fn pings_are_answered_while_nothing_is_read() {
    let node = Node::start().await;
    let mut socket = connect(&node.exec(&["hang"], stdout()), "v5.channel.k8s.io").await;
    socket.send(Message::Ping(b"there?".to_vec().into())).await.expect("sent");
    loop {
        match socket.next().await.expect("answer").expect("message") {
            Message::Pong(bytes) => break assert_eq!(&bytes[..], b"there?"),
            Message::Binary(bytes) => assert_eq!(&bytes[..], [1], "the first message"),
            other => panic!("{other:?}"),
        }
    }
    drop(socket);
    node.quiet().await;
}

#[tokio::test]
async fn ports_have_two_channels_each() {
    let node = Node::start().await;
    for (ordered, query) in [(&[13u16, 7][..], ""), (&[], "?port=13&port=7")] {
        let url = format!("{}{query}", node.forward(ordered));
        let mut socket = connect(&url, "v4.channel.k8s.io").await;
        socket.send(Message::binary([&[2][..], b"echo"].concat())).await.expect("sent");
        let mut channels: [Vec<u8>; 4] = Default::default();
        while channels[2].len() < 6 || channels[0].len() < 12 {
            let Message::Binary(bytes) = socket.next().await.expect("open").expect("message") else { panic!() };
            channels[usize::from(bytes[0])].extend(&bytes[1..]);
        }
        assert_eq!(channels[0], [&[13, 0][..], b"it is late"].concat());
        assert_eq!(channels[1], [13, 0]);
        assert_eq!(channels[2], [&[7, 0][..], b"echo"].concat());
        assert_eq!(channels[3], [7, 0]);
    }
    node.quiet().await;
}

#[tokio::test]
async fn spdy_inside_of_a_websocket() {
    let node = Node::start().await;
    let socket = connect(&node.forward(&[]), "SPDY/3.1+portforward.k8s.io").await;
    // A pipe that becomes messages, cut where it pleases.
    let (near, far) = tokio::io::duplex(1000);
    let (mut from, mut to) = tokio::io::split(far);
    let (mut sink, mut messages) = socket.split();
    let up = tokio::spawn(async move {
        let mut buffer = [0; 700];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if sink.send(Message::binary(buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
        sink
    });
    let down = tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            if let Message::Binary(bytes) = message
                && to.write_all(&bytes).await.is_err()
            {
                break;
            }
        }
    });
    let mut client = spdy::Client::new(near);
    let (error, data) = dial(&mut client, 9, "0").await;
    for _ in 0..100 {
        client.send(data, &[3; 5000], false).await.expect("sent");
    }
    client.send(data, &[], true).await.expect("sent");
    assert_eq!(client.until_ended(data).await, End::Fin);
    assert_eq!(client.until_ended(error).await, End::Fin);
    assert_eq!(client.text(data), "500000");
    drop(client);
    drop(up.await.expect("ended"));
    down.abort();
    let _ = down.await;
    node.quiet().await;
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    let node = Node::start().await;
    for (url, protocol, want) in [
        (node.exec(&["hang"], stdout()), "v6.channel.k8s.io", "403"),
        (node.exec(&["hang"], stdout()), "SPDY/3.1+portforward.k8s.io", "403"),
        (node.forward(&[80]), "v5.channel.k8s.io", "403"),
        (node.forward(&[]), "v4.channel.k8s.io", "400"),
        (format!("{}?port=0", node.forward(&[])), "v4.channel.k8s.io", "400"),
    ] {
        let (_, head) = upgrade(&url, protocol).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {want} ")), "{protocol}: {head}");
    }
    node.quiet().await;
}
