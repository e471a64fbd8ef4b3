//! Certificates: the node's roots, an endpoint's own, none at all, and those of the client.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cricket_image::registry::{Registry, RegistryError};
use cricket_model::{ErrorKind, Kinded};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::content::*;
use crate::server::{Reply, Server};

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server of these names.
    pub(crate) fn acceptor_for(&self, names: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder().with_no_client_auth();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).unwrap()))
    }

    /// A server for 127.0.0.1, which wants a client certificate of this authority if told so.
    fn acceptor(&self, clients: bool) -> TlsAcceptor {
        let (cert, key) = self.issue("127.0.0.1");
        let builder = match clients {
            false => ServerConfig::builder().with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(self.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).unwrap()))
    }

    async fn serve(&self, clients: bool) -> Server {
        let content = Content::image("tag", b"layer");
        Server::start_tls(self.acceptor(clients), move |request| content.answer(request)).await
    }
}

/// Resolves through a `hosts.toml` of one server with these fields.
async fn pull(dir: &Path, server: &Server, fields: &str) -> Result<(), RegistryError> {
    let tree = dir.join("registry.test");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("hosts.toml"), format!("server = \"https://{}\"\n{fields}", server.host())).unwrap();
    let mut config = config();
    config.config_path = vec![dir.to_owned()];
    let registry = Registry::new(config);
    registry.resolve(&reference("registry.test"), None, &amd64(), None).await.map(drop)
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_unless_the_endpoint_says_otherwise() {
    let authority = Authority::new();
    let server = authority.serve(false).await;
    let dir = tempfile::tempdir().unwrap();
    let error = pull(dir.path(), &server, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RegistryUnavailable);
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    assert_eq!(server.requests().len(), 0);

    pull(dir.path(), &server, "skip_verify = true").await.unwrap();
    fs::create_dir_all(dir.path().join("registry.test")).unwrap();
    fs::write(dir.path().join("registry.test/own.pem"), authority.0.pem()).unwrap();
    pull(dir.path(), &server, "ca = \"own.pem\"").await.unwrap();
    pull(dir.path(), &server, "ca = [\"own.pem\"]").await.unwrap();

    fs::write(dir.path().join("other.pem"), Authority::new().0.pem()).unwrap();
    assert!(pull(dir.path(), &server, "ca = \"../other.pem\"").await.is_err());
    let error = pull(dir.path(), &server, "ca = \"missing.pem\"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("missing.pem"), "{error}");
}

#[tokio::test]
async fn client_certificates_are_shown() {
    let authority = Authority::new();
    let server = authority.serve(true).await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), authority.0.pem()).unwrap();
    let (cert, key) = authority.issue("client");
    fs::write(dir.path().join("c.pem"), cert.pem()).unwrap();
    fs::write(dir.path().join("k.pem"), key.serialize_pem()).unwrap();
    fs::write(dir.path().join("both.pem"), cert.pem() + &key.serialize_pem()).unwrap();
    let ca = "ca = \"../ca.pem\"\n";
    pull(dir.path(), &server, ca).await.unwrap_err();
    for client in ["[[\"../c.pem\", \"../k.pem\"]]", "\"../both.pem\"", "[\"../both.pem\"]"] {
        pull(dir.path(), &server, &format!("{ca}client = {client}\n")).await.unwrap();
    }
    pull(dir.path(), &server, &format!("{ca}client = [[\"../c.pem\", \"../none.pem\"]]\n")).await.unwrap_err();
}

#[tokio::test]
async fn dockers_certificate_directory_is_read() {
    let authority = Authority::new();
    let server = authority.serve(true).await;
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(server.host());
    fs::create_dir_all(&dir).unwrap();
    let (cert, key) = authority.issue("client");
    fs::write(dir.join("ca.crt"), authority.0.pem()).unwrap();
    fs::write(dir.join("client.cert"), cert.pem()).unwrap();
    fs::write(dir.join("client.key"), key.serialize_pem()).unwrap();
    let mut config = config();
    config.config_path = vec![root.path().join("absent"), root.path().to_owned()];
    Registry::new(config).resolve(&reference(&server.host()), None, &amd64(), None).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn https_is_not_left_by_a_redirect() {
    let plain = Server::start(|_| Reply::new(200)).await;
    let to = format!("http://{}/", plain.host());
    let authority = Authority::new();
    let server = Server::start_tls(authority.acceptor(false), move |_| Reply::redirect(&to)).await;
    let dir = tempfile::tempdir().unwrap();
    let error = pull(dir.path(), &server, "skip_verify = true").await.unwrap_err();
    assert!(error.to_string().contains("from https to http"), "{error}");
    assert_eq!(plain.requests().len(), 0);
}

#[tokio::test]
async fn a_token_server_without_tls_gets_nothing_from_a_registry_with_it() {
    let tokens = Server::start(|_| Reply::ok(r#"{"token":"t"}"#)).await;
    let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.host());
    let authority = Authority::new();
    let server =
        Server::start_tls(authority.acceptor(false), move |_| Reply::new(401).header("www-authenticate", &challenge))
            .await;
    let dir = tempfile::tempdir().unwrap();
    let error = pull(dir.path(), &server, "skip_verify = true").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("not an https address"), "{error}");
    assert_eq!(tokens.requests().len(), 0);
}

/// Runs in a child process, because the system's roots are a matter of the environment.
#[tokio::test]
async fn the_systems_roots_come_from_ssl_cert_file() {
    const CHILD: &str = "CRICKET_TEST_TLS_CHILD";
    if let Ok(host) = std::env::var(CHILD) {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("registry.test");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("hosts.toml"), format!("server = \"https://{host}\"\n")).unwrap();
        let mut config = config();
        config.config_path = vec![dir.path().to_owned()];
        Registry::new(config).resolve(&reference("registry.test"), None, &amd64(), None).await.unwrap();
        return;
    }
    let authority = Authority::new();
    let server = authority.serve(false).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roots.pem");
    fs::write(&file, authority.0.pem()).unwrap();
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::the_systems_roots_come_from_ssl_cert_file"])
        .env(CHILD, server.host())
        .env("SSL_CERT_FILE", &file)
        .output()
        .await
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!(server.requests().len(), 2);
}
