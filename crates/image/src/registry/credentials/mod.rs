//! The node's own credentials: a docker `config.json` or `.dockercfg`, and what its helpers know.
//!
//! Invariants:
//! - They are for calls that bring none: a kubelet concludes from a pull with a pod's credentials that these are good.
//! - The file is read when a pull needs it; a helper runs only after an endpoint asked for credentials.
//! - An endpoint gets what is for its own host: a mirror does not see what is for the registry behind it.
//! - Nothing of a file or of a helper's answer is in a log, an error or debug output.

mod file;
mod helper;
mod matching;

use std::path::PathBuf;

use http::HeaderMap;

pub(crate) use self::file::DockerConfig;
pub use self::file::kubelet_credential_files;
pub(crate) use self::helper::Helper;
use super::auth::Credentials;
use super::hosts::file::add_header;

/// Most credentials tried at one endpoint.
const MAX_CANDIDATES: usize = 32;

/// Credentials that may be right.
#[derive(Clone)]
pub(crate) enum Candidate {
    /// These.
    Known(Credentials),
    /// What a helper says.
    Helper(Helper),
}

/// What the node has for registries, as it was when the pull began.
#[derive(Default)]
pub(crate) struct NodeCredentials {
    config: DockerConfig,
    headers: HeaderMap,
}

impl NodeCredentials {
    /// Reads the first of the files that can be used. Blocks.
    pub(crate) fn load(paths: &[PathBuf]) -> Self {
        let Some((mut config, path)) = file::load(paths) else { return Self::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in config.headers.take().into_iter().flatten() {
            if let Err(cause) = add_header(&mut headers, &name, &[value]) {
                tracing::warn!(path = %path.display(), cause, "a header of HttpHeaders is left out");
            }
        }
        Self { config, headers }
    }

    /// The headers for an endpoint that has candidates.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What to try for `image` (`host[:port]/repository`), in order.
    pub(crate) fn candidates(&self, image: &str) -> Vec<Candidate> {
        candidates(&self.config, image)
    }
}

/// The entries and helpers of a file that are for `image`, the most specific first; last what its store knows.
pub(crate) fn candidates(config: &DockerConfig, image: &str) -> Vec<Candidate> {
    let mut keys: Vec<(&str, Result<&file::Entry, &str>)> = Vec::new();
    keys.extend(config.helpers.iter().flatten().map(|(key, name)| (key.as_str(), Err(name.as_str()))));
    keys.extend(config.auths.iter().flatten().filter_map(|(key, e)| Some((key.as_str(), Ok(e.as_ref()?)))));
    let host = image.split('/').next().unwrap_or_default();
    let asked = |key: &str| match (key.contains(['*', '[']), host) {
        (false, _) => key.to_owned(),
        (true, host) => host.to_owned(),
    };
    let store = config.store.as_deref().filter(|s| !s.is_empty());
    let (mut found, mut stored) = (Vec::new(), false);
    for index in matching::select(keys.iter().map(|(key, _)| *key), image) {
        let (key, entry) = keys[index];
        let candidate = match entry {
            Err(name) => Helper::new(name, &asked(key)).map(Candidate::Helper),
            Ok(entry) => match Credentials::of(&entry.config(), "") {
                Ok(Some(credentials)) => Some(Candidate::Known(credentials)),
                // Where there is a store, an empty entry says that it knows the key.
                Ok(None) => {
                    stored |= store.is_some();
                    store.and_then(|name| Helper::new(name, &asked(key))).map(Candidate::Helper)
                }
                Err(cause) => {
                    tracing::warn!(key, cause, "an entry of the credentials file is left out");
                    None
                }
            },
        };
        found.extend(candidate);
    }
    if let Some(name) = store.filter(|_| !stored) {
        let address = if host == "docker.io" { "https://index.docker.io/v1/" } else { host };
        found.extend(Helper::new(name, address).map(Candidate::Helper));
    }
    if found.len() > MAX_CANDIDATES {
        tracing::warn!(image, "only the first {MAX_CANDIDATES} matching credentials are tried");
        found.truncate(MAX_CANDIDATES);
    }
    found
}
