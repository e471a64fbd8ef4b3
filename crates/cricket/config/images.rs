//! The images' table: pulls, pinned images and registries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cricket_image::registry::RegistryConfig;
use cricket_image::{AuthConfig, VerifierConfig};

use super::duration::GoDuration;
use super::error::Result;
use super::reader::Reader;
use super::verifiers;
use super::versions::IMAGES;

/// The table.
const TABLE: [&str; 2] = ["plugins", IMAGES];
const REGISTRY: [&str; 3] = ["plugins", IMAGES, "registry"];

/// Settings of the image service.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    /// Layers at once, where it is set.
    pub(crate) max_concurrent_downloads: Option<usize>,
    /// Patterns of images that are never collected.
    pub(crate) pinned: Vec<String>,
    /// Registries.
    pub(crate) registry: RegistryConfig,
    /// Programs that decide whether an image may be pulled.
    pub(crate) verifiers: VerifierConfig,
}

/// Reads the table.
pub(super) fn read(r: &mut Reader) -> Result<Images> {
    let max_concurrent_downloads = r.optional(&TABLE, "max_concurrent_downloads")?;
    if max_concurrent_downloads == Some(0) {
        return Err(r.wrong(&TABLE, "max_concurrent_downloads", "want at least 1"));
    }
    let progress = r.setting(&TABLE, "image_pull_progress_timeout", GoDuration(Duration::from_secs(60)))?.0;
    let mut pinned = Vec::new();
    let table: Vec<&str> = TABLE.into_iter().chain(["pinned_images"]).collect();
    for name in r.keys(&table) {
        let image: Option<String> = r.optional(&table, &name)?;
        pinned.extend(image.filter(|i| !i.is_empty()));
    }
    let registry = registry(r, progress)?;
    r.fixed(&TABLE, "snapshotter", "overlayfs");
    r.fixed(&TABLE, "image_pull_with_sync_fs", true);
    r.fixed(&TABLE, "discard_unpacked_layers", true);
    Ok(Images { max_concurrent_downloads, pinned, registry, verifiers: verifiers::read(r)? })
}

fn registry(r: &mut Reader, progress_timeout: Duration) -> Result<RegistryConfig> {
    let paths: String = r.setting(&REGISTRY, "config_path", String::new())?;
    let config_path = paths.split(':').filter(|p| !p.is_empty()).map(PathBuf::from).collect();
    let mut mirrors = BTreeMap::new();
    for host in r.keys(&under("mirrors", None)) {
        let endpoints: Option<Vec<String>> = r.optional(&under("mirrors", Some(&host)), "endpoint")?;
        mirrors.extend(endpoints.map(|e| (host.clone(), e)));
    }
    let mut auths = BTreeMap::new();
    for host in r.keys(&under("configs", None)) {
        let table: Vec<&str> = under("configs", Some(&host)).into_iter().chain(["auth"]).collect();
        if r.keys(&table).is_empty() {
            continue;
        }
        let auth = AuthConfig {
            username: r.optional(&table, "username")?.unwrap_or_default(),
            password: r.secret(&table, "password")?,
            auth: r.secret(&table, "auth")?,
            identity_token: r.secret(&table, "identitytoken")?,
            ..AuthConfig::default()
        };
        auths.insert(host, auth);
    }
    let mut headers = BTreeMap::new();
    for name in r.keys(&under("headers", None)) {
        headers.insert(name.clone(), r.secret(&under("headers", None), &name)?);
    }
    Ok(RegistryConfig { config_path, mirrors, auths, headers, progress_timeout, ..RegistryConfig::default() })
}

fn under<'a>(key: &'a str, host: Option<&'a str>) -> Vec<&'a str> {
    REGISTRY.into_iter().chain([key]).chain(host).collect()
}
