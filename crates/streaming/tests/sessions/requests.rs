//! Requests that get no session, and TLS.

use std::sync::Arc;

use cricket_streaming::{Config, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::backend::{Node, stdout};
use super::spdy::{Client, head, request};

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

#[tokio::test]
async fn tls_with_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("certificate");
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let config = Config { tls: Some(Tls::Files { certificate, key }), ..Config::default() };
    let node = Node::with(config).await;
    let url = node.exec(&["say", "0"], stdout());
    let (host, path) = url.strip_prefix("https://").and_then(|u| u.split_once('/')).expect("https");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).expect("root");
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(host).await.expect("connects");
    let name = ServerName::try_from("127.0.0.1").expect("name");
    let mut io = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.expect("TLS");
    io.write_all(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n{SPDY}\r\n").as_bytes()).await.expect("sent");
    let answer = head(&mut io).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let mut client = Client::new(io);
    let error = client.open(&[("streamtype", "error")]).await;
    let out = client.open(&[("streamtype", "stdout")]).await;
    client.finish().await;
    assert_eq!(client.text(out), "to stdout");
    assert!(client.text(error).contains("Success"));
    // Without TLS there is nothing.
    let mut plain = TcpStream::connect(host).await.expect("connects");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    drop(client);
    node.quiet().await;
}
