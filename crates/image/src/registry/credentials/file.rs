//! Docker's `config.json` (`auths`, `credHelpers`, `credsStore`, `HttpHeaders`) and the older `.dockercfg`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;

use crate::registry::AuthConfig;

/// Largest file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The name of a file in the older format, whatever is in it.
const OLD_NAME: &str = ".dockercfg";

/// A credentials file. Not `Debug`: it is all secrets.
#[derive(Default, Deserialize)]
pub(crate) struct DockerConfig {
    /// Credentials by key.
    #[serde(default)]
    pub(super) auths: Option<BTreeMap<String, Option<Entry>>>,
    /// Names of helpers by key.
    #[serde(default, rename = "credHelpers")]
    pub(super) helpers: Option<BTreeMap<String, String>>,
    /// The helper of every other registry.
    #[serde(default, rename = "credsStore")]
    pub(super) store: Option<String>,
    /// Sent with each request to the registries that the file has an entry for.
    #[serde(default, rename = "HttpHeaders")]
    pub(super) headers: Option<BTreeMap<String, String>>,
}

/// One registry's credentials.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    auth: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
    #[serde(default, rename = "registrytoken")]
    registry_token: Option<String>,
}

impl Entry {
    /// The entry as a call would bring it. `auth` goes before name and password.
    pub(super) fn config(&self) -> AuthConfig {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let auth = text(&self.auth);
        let plain = |value: &Option<String>| if auth.is_empty() { text(value) } else { String::new() };
        AuthConfig {
            username: plain(&self.username),
            password: plain(&self.password),
            identity_token: text(&self.identity_token),
            registry_token: text(&self.registry_token),
            server_address: String::new(),
            auth,
        }
    }
}

impl DockerConfig {
    /// Reads the bytes of a file; `old`: those of a `.dockercfg`, which is the `auths` alone.
    ///
    /// # Errors
    /// Where it is malformed. The text repeats nothing of it.
    pub(crate) fn parse(bytes: &[u8], old: bool) -> Result<Self, String> {
        let parsed = match old {
            true => serde_json::from_slice(bytes).map(|auths| Self { auths: Some(auths), ..Self::default() }),
            false => serde_json::from_slice(bytes),
        };
        // The library's own text may quote a value.
        parsed.map_err(|e| format!("not a credentials file: line {}, column {}", e.line(), e.column()))
    }
}

/// Where a kubelet looks, in its order, less its working directory, which says nothing about a daemon.
pub fn kubelet_credential_files(home: Option<&Path>) -> Vec<PathBuf> {
    let (kubelet, root) = (Path::new("/var/lib/kubelet"), Path::new("/"));
    let home = home.filter(|h| h.is_absolute());
    let new = [Some(kubelet.to_owned()), home.map(|h| h.join(".docker")), Some(root.join(".docker"))];
    let old = [Some(kubelet), home, Some(root)];
    let new = new.into_iter().flatten().map(|dir| dir.join("config.json"));
    new.chain(old.into_iter().flatten().map(|dir| dir.join(OLD_NAME))).collect()
}

/// The first of the files that can be used, and its path. Others are passed over, as the kubelet does. Blocks.
pub(super) fn load(paths: &[PathBuf]) -> Option<(DockerConfig, &Path)> {
    paths.iter().find_map(|path| {
        let old = path.file_name().is_some_and(|name| name == OLD_NAME);
        let read = match read(path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return None,
            Err(e) => Err(e.to_string()),
            Ok(bytes) => DockerConfig::parse(&bytes, old),
        };
        match read {
            Ok(config) => Some((config, path.as_path())),
            Err(cause) => {
                tracing::warn!(path = %path.display(), cause, "credentials file passed over");
                None
            }
        }
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO in its place must not hold the pull.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if about.mode() & 0o007 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", about.mode() & 0o7777), "credentials are open to every user");
    }
    let mut bytes = Vec::new();
    if file.take(MAX_FILE + 1).read_to_end(&mut bytes)? as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test panics to fail")]

    use super::*;

    #[test]
    fn errors_repeat_nothing() {
        for text in [r#"{"auths":"hunter2"}"#, r#"{"auths":{"h":{"auth":["hunter2"]}}}"#, r#"{"hunter2"#] {
            let error = DockerConfig::parse(text.as_bytes(), false).err().unwrap();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn auth_goes_before_name_and_password() {
        let text = r#"{"h":{"username":"u","password":"p","auth":"YTpi","email":"x"},"i":null}"#;
        let config = DockerConfig::parse(text.as_bytes(), true).ok().unwrap();
        let entry = config.auths.unwrap()["h"].clone().unwrap().config();
        assert_eq!((entry.username.as_str(), entry.auth.as_str()), ("", "YTpi"));
    }

    #[test]
    fn the_first_file_that_can_be_used_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("broken.json"), "{").unwrap();
        std::fs::write(path("large.json"), vec![b' '; MAX_FILE as usize + 1]).unwrap();
        std::fs::write(path(".dockercfg"), r#"{"auths":{"auth":"YTpi"}}"#).unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        let paths: Vec<_> = ["missing", "broken.json", "large.json", "directory", ".dockercfg"].map(path).into();
        let (config, from) = load(&paths).unwrap();
        assert_eq!(from, path(".dockercfg"));
        assert!(config.auths.unwrap().contains_key("auths"), "an old file has hosts at its top");
        assert!(load(&paths[..4]).is_none());
    }

    #[test]
    fn the_kubelet_looks_for_the_new_format_first() {
        let paths = kubelet_credential_files(Some(Path::new("/root")));
        let paths: Vec<_> = paths.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "/var/lib/kubelet/config.json",
                "/root/.docker/config.json",
                "/.docker/config.json",
                "/var/lib/kubelet/.dockercfg",
                "/root/.dockercfg",
                "/.dockercfg",
            ]
        );
        assert_eq!(kubelet_credential_files(None).len(), 4);
    }
}
