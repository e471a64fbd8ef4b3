//! The server's certificate.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Made at each start, signed by itself, for this host's loopback names and the address that is listened on.
    SelfSigned,
    /// PEM files, the certificate first and then those that signed it.
    Files {
        /// The certificates.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: rustls::pki_types::pem::Error,
    },
    /// The certificate could not be made.
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
    /// Certificate and key do not fit.
    #[error("use the certificate")]
    Use(#[source] rustls::Error),
}

/// Makes connections TLS ones. `host` is the address that clients are told.
pub(crate) fn acceptor(tls: &Tls, host: &str) -> Result<TlsAcceptor, TlsError> {
    let (chain, key) = match tls {
        Tls::SelfSigned => make(host).map_err(TlsError::Make)?,
        Tls::Files { certificate, key } => {
            let wrong = |path: &PathBuf| {
                let path = path.clone();
                move |error| TlsError::File { path, error }
            };
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
            let chain = chain.map_err(wrong(certificate))?;
            (chain, PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?)
        }
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Use)?;
    // Upgrades are HTTP/1.1's.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn make(host: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1", host].map(Into::into).to_vec();
    names.dedup();
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok((vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_ones_own() {
        assert!(acceptor(&Tls::SelfSigned, "192.0.2.1").is_ok());
    }

    #[test]
    fn files_that_are_wrong_are_named() {
        let missing = Tls::Files { certificate: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
        let error = acceptor(&missing, "127.0.0.1").err().expect("missing");
        assert!(error.to_string().starts_with("/nowhere/cert.pem: "), "{error}");
    }
}
