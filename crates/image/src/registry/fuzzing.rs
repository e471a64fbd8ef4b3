//! What the fuzz targets call of the registry client's private parsers. Not part of this crate's interface.

use std::path::{Path, PathBuf};

use http::HeaderValue;
use url::Url;

use super::auth::{Credentials, challenge};
use super::credentials::{self, Candidate, DockerConfig};
use super::hosts::file;
use super::manifest::{Config, Descriptor, Document, document_size, layer};
use super::{AuthConfig, Compression, Platform, blob, transport};

/// The challenges of a `WWW-Authenticate` header: schemes, and the names and values of parameters.
pub fn challenges(header: &str) -> Vec<(String, Vec<(String, String)>)> {
    challenge::parse(header).into_iter().map(|c| (c.scheme, c.params)).collect()
}

/// An endpoint of a `hosts.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Up to where repositories begin; none: the registry's own address.
    pub base: Option<Url>,
    /// Files of certificates and keys.
    pub files: Vec<PathBuf>,
    /// Names of headers.
    pub headers: Vec<String>,
}

/// The endpoints of a `hosts.toml` in `dir`, and the fields that are not understood.
///
/// # Errors
/// What is wrong with it.
pub fn endpoints(text: &str, dir: &Path) -> Result<(Vec<Endpoint>, Vec<String>), String> {
    let mut unknown = Vec::new();
    let entries = file::parse(text, dir, &mut unknown)?;
    let endpoint = |entry: file::Entry| {
        let identities = entry.identities.into_iter().flat_map(|(cert, key)| std::iter::once(cert).chain(key));
        Endpoint {
            base: entry.base,
            files: entry.roots.into_iter().chain(identities).collect(),
            headers: entry.headers.keys().map(ToString::to_string).collect(),
        }
    };
    Ok((entries.into_iter().map(endpoint).collect(), unknown))
}

/// What a manifest's address holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Platforms, and sizes of documents that are small enough to be fetched.
    Index(Vec<(Option<Platform>, Option<u64>)>),
    /// The config's size if it is small enough; sizes and packing of the layers that can be used.
    Image(Option<u64>, Vec<Option<(u64, Compression)>>),
}

/// Reads a manifest or index that others call `said`.
///
/// # Errors
/// What is wrong with it.
pub fn document(bytes: &[u8], said: &[&str]) -> Result<Shape, String> {
    let size = |d: &Descriptor| document_size(d).ok();
    Ok(match Document::parse(bytes, said)? {
        Document::Index(children) => {
            Shape::Index(children.iter().map(|d| (d.platform.as_ref().map(Platform::from), size(d))).collect())
        }
        Document::Image { config, layers } => {
            Shape::Image(size(&config), layers.iter().map(|d| layer(d).ok()).collect())
        }
    })
}

/// The number of diff IDs of an image's config, and its platform.
///
/// # Errors
/// What is wrong with it.
pub fn image_config(bytes: &[u8], layers: usize) -> Result<(usize, Option<Platform>), String> {
    let config = Config::parse(bytes, layers)?;
    Ok((config.diff_ids().len(), config.platform()))
}

/// The header by which these credentials log in to the endpoint `host`, if they are for it and are a name and password.
///
/// # Errors
/// What is wrong with them.
pub fn credentials(config: &AuthConfig, host: &str) -> Result<Option<String>, String> {
    Ok(Credentials::of(config, host)?.and_then(|c| c.basic()))
}

/// What a docker `config.json` (`old`: a `.dockercfg`) has for `image`, in order: headers to log in with, where there
/// is one, and whether a helper is to be asked.
///
/// # Errors
/// What is wrong with it.
pub fn node_credentials(bytes: &[u8], old: bool, image: &str) -> Result<Vec<(Option<String>, bool)>, String> {
    let config = DockerConfig::parse(bytes, old)?;
    let found = credentials::candidates(&config, image).into_iter().map(|candidate| match candidate {
        Candidate::Known(known) => (known.basic(), false),
        Candidate::Helper(_) => (None, true),
    });
    Ok(found.collect())
}

/// Where a redirect leads, if it is followed.
pub fn redirect(from: &Url, location: &[u8]) -> Option<Url> {
    transport::target(from, Some(&HeaderValue::from_bytes(location).ok()?)).ok()
}

/// Whether a `Content-Range` is from `offset` to the end of `size` bytes.
pub fn range_matches(range: &str, offset: u64, size: u64) -> bool {
    blob::range_matches(range, offset, size)
}
