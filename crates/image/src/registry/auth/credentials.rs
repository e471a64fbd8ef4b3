//! Which credentials an endpoint may see.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};

use super::AuthConfig;

/// Padding is optional: files written by hand lack it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials for one endpoint.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// User name and password.
    Basic { username: String, password: String },
    /// An OAuth2 refresh token, for the token server only.
    Identity(String),
    /// A bearer token for the registry.
    Registry(String),
}

impl Credentials {
    /// What of `config` may go to the endpoint at `host` (`name[:port]`).
    ///
    /// # Errors
    /// `auth` cannot be decoded; the text never repeats it.
    pub(crate) fn of(config: &AuthConfig, host: &str) -> Result<Option<Self>, String> {
        if !config.server_address.is_empty() && !same_server(&config.server_address, host) {
            return Ok(None);
        }
        if !config.registry_token.is_empty() {
            return Ok(Some(Self::Registry(config.registry_token.clone())));
        }
        if !config.identity_token.is_empty() {
            return Ok(Some(Self::Identity(config.identity_token.clone())));
        }
        if !config.username.is_empty() {
            let (username, password) = (config.username.clone(), config.password.clone());
            return Ok(Some(Self::Basic { username, password }));
        }
        if config.auth.is_empty() {
            return Ok(None);
        }
        let wrong = || "credentials: auth is not the base64 form of user:password".to_owned();
        let bytes = BASE64.decode(config.auth.trim()).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (username, password) = text.split_once(':').ok_or_else(wrong)?;
        // Old Docker versions filled the password up with NULs.
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Self::Basic { username: username.to_owned(), password }))
    }

    /// The value of a basic `Authorization` header (RFC 7617).
    pub(crate) fn basic(&self) -> Option<String> {
        let Self::Basic { username, password } = self else { return None };
        Some(format!("Basic {}", BASE64.encode(format!("{username}:{password}"))))
    }

    /// Tells credentials apart without keeping them.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let parts: [&str; 3] = match self {
            Self::Basic { username, password } => ["basic", username, password],
            Self::Identity(token) => ["identity", token, ""],
            Self::Registry(token) => ["registry", token, ""],
        };
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// Whether an address as credentials files write it (`https://index.docker.io/v1/`, `host:port`) is that host.
pub(crate) fn same_server(address: &str, host: &str) -> bool {
    fn plain(address: &str) -> (String, &'static str) {
        let (rest, port) = match address.split_once("://") {
            Some(("http", rest)) => (rest, ":80"),
            Some((_, rest)) => (rest, ":443"),
            None => (address, ":443"),
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        match host.as_str() {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => ("registry-1.docker.io".to_owned(), port),
            _ => (host, port),
        }
    }
    let ((a, port), (b, _)) = (plain(address), plain(host));
    a == b || a.strip_suffix(port).is_some_and(|a| a == b) || b.strip_suffix(port).is_some_and(|b| b == a)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics to fail")]

    use super::*;

    #[test]
    fn the_server_address_decides() {
        for (address, host, same) in [
            ("", "", true),
            ("https://index.docker.io/v1/", "registry-1.docker.io", true),
            ("docker.io", "registry-1.docker.io", true),
            ("registry.example", "registry.example", true),
            ("https://Registry.example/v2/", "registry.example", true),
            ("registry.example:443", "registry.example", true),
            ("http://registry.example", "registry.example:80", true),
            ("registry.example:5000", "registry.example", false),
            ("registry.example", "registry.example:5000", false),
            ("registry.example", "evil.registry.example", false),
            ("registry.example", "registry.example.evil", false),
        ] {
            assert_eq!(same_server(address, host), same, "{address} {host}");
        }
    }

    #[test]
    fn reads_every_form() {
        let basic = Credentials::Basic { username: "u".to_owned(), password: "p:q".to_owned() };
        for auth in ["dTpwOnE=", "dTpwOnE", " dTpwOnE=\n", "dTpwOnEAAA=="] {
            let config = AuthConfig { auth: auth.to_owned(), ..AuthConfig::default() };
            assert!(Credentials::of(&config, "h").unwrap().unwrap() == basic, "{auth}");
        }
        let config = AuthConfig { auth: "%%".to_owned(), ..AuthConfig::default() };
        assert!(Credentials::of(&config, "h").is_err());
        let config = AuthConfig { username: "u".into(), server_address: "other".into(), ..AuthConfig::default() };
        assert!(Credentials::of(&config, "h").unwrap().is_none());
        assert!(Credentials::of(&AuthConfig::default(), "h").unwrap().is_none());
        assert_eq!(basic.basic().as_deref(), Some("Basic dTpwOnE="));
    }
}
