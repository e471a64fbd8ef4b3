//! Which endpoints stand for a registry: containerd's `config_path` trees, the old `mirrors` table, the registry
//! itself.
//!
//! ```text
//! config_path[0]/HOST/ or config_path[0]/_default/ ─ first that exists ─▶ hosts.toml, else *.crt, *.cert + *.key
//! mirrors.HOST or mirrors."*"                      ─ if there is none ─▶ endpoints, then the registry itself
//! ```
//!
//! The files are read at each pull, so that edits count without a restart.

pub(crate) mod clients;
pub(crate) mod file;
#[cfg(test)]
mod tests;
mod tree;

use http::HeaderMap;
use url::Url;

use self::clients::{Clients, Tls, is_loopback};
use self::file::Entry;
use super::{RegistryConfig, RegistryError};

/// An endpoint that is ready for use.
pub(crate) struct Host {
    /// Up to where repositories begin.
    pub(crate) base: Url,
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) clients: Clients,
}

impl Host {
    /// Host and port, as credentials and namespaces name it.
    pub(crate) fn authority(&self) -> String {
        authority(&self.base)
    }
}

fn authority(url: &Url) -> String {
    match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    }
}

/// The endpoints for a registry, in the order to be asked. Reads files: not for an async thread.
pub(crate) fn load(config: &RegistryConfig, registry: &str, shared: &Clients) -> Result<Vec<Host>, RegistryError> {
    let wrong = |path: String, cause: String| RegistryError::Config { path, cause };
    let mut headers = HeaderMap::new();
    for (name, values) in &config.headers {
        file::add_header(&mut headers, name, values).map_err(|e| wrong("registry.headers".to_owned(), e))?;
    }
    let (entries, place) = match tree::find(&config.config_path, registry)? {
        Some((entries, path)) => (entries, path.display().to_string()),
        None => {
            let place = format!("registry.mirrors.{registry:?}");
            (mirrors(config, registry).map_err(|e| wrong(place.clone(), e))?, place)
        }
    };
    let mut hosts = Vec::with_capacity(entries.len());
    for entry in entries {
        let own = entry.skip_verify || !entry.roots.is_empty() || !entry.identities.is_empty();
        let mut skip_verify = entry.skip_verify;
        let base = match entry.base {
            Some(base) => base,
            None => {
                let base = upstream(registry, own).map_err(|e| wrong(registry.to_owned(), e))?;
                // A registry on loopback rarely has a certificate for it; containerd does not check it either.
                skip_verify |= !own && base.scheme() == "https" && is_loopback(&base);
                base
            }
        };
        let mut all = headers.clone();
        for (name, value) in &entry.headers {
            all.append(name, value.clone());
        }
        let clients = match own || skip_verify || entry.dial_timeout.is_some() {
            false => shared.clone(),
            true => {
                let tls =
                    tree::tls(&entry.roots, &entry.identities, skip_verify).map_err(|e| wrong(place.clone(), e))?;
                Clients::new(tls, entry.dial_timeout.unwrap_or(config.connect_timeout))
            }
        };
        hosts.push(Host { base, pull: entry.pull, resolve: entry.resolve, headers: all, clients });
    }
    Ok(hosts)
}

/// Clients for endpoints that need nothing special.
pub(crate) fn shared(config: &RegistryConfig) -> Clients {
    Clients::new(Tls::default(), config.connect_timeout)
}

/// The address of the registry itself. As in containerd, loopback is spoken to in plain HTTP unless its port is
/// missing or 443, or there are TLS settings for it.
fn upstream(registry: &str, tls: bool) -> Result<Url, String> {
    let host = if registry == crate::reference::DEFAULT_REGISTRY { "registry-1.docker.io" } else { registry };
    let secure = file::base(host, false)?;
    if tls || !is_loopback(&secure) || secure.port().is_none() {
        return Ok(secure);
    }
    file::base(&format!("http://{host}"), false)
}

/// The old table: the host's endpoints, else those of `*`, then the registry itself.
fn mirrors(config: &RegistryConfig, registry: &str) -> Result<Vec<Entry>, String> {
    let listed = config.mirrors.get(registry).or_else(|| config.mirrors.get("*"));
    let mut entries = Vec::new();
    for endpoint in listed.into_iter().flatten() {
        entries.push(Entry { base: Some(file::base(endpoint, false)?), ..Entry::upstream() });
    }
    let own = upstream(registry, false)?;
    if !entries.iter().any(|e| e.base.as_ref().is_some_and(|b| authority(b) == authority(&own))) {
        entries.push(Entry::upstream());
    }
    Ok(entries)
}
