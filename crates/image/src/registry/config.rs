//! The node's settings for registries, as containerd's configuration file has them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::AuthConfig;

/// `[plugins."io.containerd.cri.v1.images".registry]` and the pull timeouts.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Roots of `hosts.toml` trees, the first that knows a host wins. They are read at each pull.
    pub config_path: Vec<PathBuf>,
    /// The old `registry.mirrors.HOST.endpoint`; `*` stands for every other host. A host that `config_path` has a
    /// directory for does not look here.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// `registry.configs.HOST.auth`: used when the call brings no credentials.
    pub auths: BTreeMap<String, AuthConfig>,
    /// Docker's `config.json` files, and `.dockercfg` by that name: the first that can be used is read at each pull
    /// that brings no credentials, and every matching entry is tried after `auths`.
    pub credential_files: Vec<PathBuf>,
    /// `registry.headers`: sent with every request to a registry.
    pub headers: BTreeMap<String, Vec<String>>,
    /// How long connecting to one endpoint may take.
    pub connect_timeout: Duration,
    /// How long one endpoint may take from a request to its answer's head, and to a manifest's last byte.
    pub response_timeout: Duration,
    /// The window in which a transfer must make progress (`image_pull_progress_timeout`); zero: no bound.
    pub progress_timeout: Duration,
    /// How many bytes a window must bring: fewer count as no progress.
    pub progress_bytes: u64,
    /// How often a broken transfer is taken up again at one endpoint without progress in between.
    pub resumes: u32,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            config_path: Vec::new(),
            mirrors: BTreeMap::new(),
            auths: BTreeMap::new(),
            credential_files: Vec::new(),
            headers: BTreeMap::new(),
            connect_timeout: Duration::from_secs(15),
            response_timeout: Duration::from_secs(60),
            progress_timeout: Duration::from_secs(60),
            progress_bytes: 16 << 10,
            resumes: 4,
        }
    }
}

/// Without the values of headers, which may be secrets.
impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryConfig")
            .field("config_path", &self.config_path)
            .field("mirrors", &self.mirrors)
            .field("auths", &self.auths)
            .field("credential_files", &self.credential_files)
            .field("headers", &self.headers.keys())
            .field("progress_timeout", &self.progress_timeout)
            .finish_non_exhaustive()
    }
}
