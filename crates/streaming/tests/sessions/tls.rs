//! Sessions over TLS.

use std::sync::{Arc, Mutex};

use cricket_streaming::{Config, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::backend::{Node, stdout};
use super::spdy::{Client, head};

const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Trusts this certificate only, for the names that it is for.
fn trusting(root: CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("root");
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn dial(host: &str, name: &str, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(host).await?;
    let name = ServerName::try_from(name.to_owned()).expect("name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

fn parts(url: &str) -> (&str, &str) {
    url.strip_prefix("https://").and_then(|u| u.split_once('/')).expect("https")
}

/// A whole session.
async fn session(node: &Node, name: &str, config: ClientConfig) {
    let url = node.exec(&["say", "0"], stdout());
    let (host, path) = parts(&url);
    let mut io = dial(host, name, config).await.expect("TLS");
    io.write_all(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n{SPDY}\r\n").as_bytes()).await.expect("sent");
    let answer = head(&mut io).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let mut client = Client::new(io);
    let error = client.open(&[("streamtype", "error")]).await;
    let out = client.open(&[("streamtype", "stdout")]).await;
    client.finish().await;
    assert_eq!(client.text(out), "to stdout");
    assert!(client.text(error).contains("Success"));
}

/// Without TLS there is nothing.
async fn plain_is_refused(node: &Node) {
    let host = node.server.base().strip_prefix("https://").expect("https");
    let mut plain = TcpStream::connect(host).await.expect("connects");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn with_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("certificate");
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let config = Config { tls: Some(Tls::Files { certificate, key }), ..Config::default() };
    let node = Node::with(config).await;
    session(&node, "127.0.0.1", trusting(CertificateDer::from(made.cert.der().to_vec()))).await;
    plain_is_refused(&node).await;
    node.quiet().await;
}

/// Remembers the server's certificate, and refuses it.
#[derive(Debug, Default)]
struct Look(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().expect("lock") = Some(certificate.clone().into_owned());
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What a kubelet sees that takes any certificate once, and then only that one: the certificate is for the address
/// that the URL names, for the loopback's names, and for no others.
#[tokio::test]
async fn signed_by_itself() {
    let config = Config { tls: Some(Tls::SelfSigned), ..Config::default() };
    let node = Node::with(config).await;
    let host = node.server.base().strip_prefix("https://").expect("https");
    let look = Arc::new(Look::default());
    let looking = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(look.clone())
        .with_no_client_auth();
    dial(host, "127.0.0.1", looking).await.expect_err("refused by the client");
    let certificate = look.0.lock().expect("lock").take().expect("a certificate");
    for name in ["127.0.0.1", "localhost", "::1"] {
        session(&node, name, trusting(certificate.clone())).await;
    }
    for other in ["192.0.2.1", "example.com"] {
        dial(host, other, trusting(certificate.clone())).await.expect_err(other);
    }
    plain_is_refused(&node).await;
    // Another server's is another one.
    let other = Node::with(Config { tls: Some(Tls::SelfSigned), ..Config::default() }).await;
    let host = other.server.base().strip_prefix("https://").expect("https");
    dial(host, "127.0.0.1", trusting(certificate)).await.expect_err("of the other server");
    node.quiet().await;
}
