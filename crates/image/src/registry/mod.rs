//! The client of OCI registries: what a reference names, and a layer's bytes.
//!
//! ```text
//! Registry ──resolve──▶ Resolved { digests, manifest, config, layers, source }
//!     └──fetch_blob(source, layer)──▶ BlobStream ──chunk()──▶ bytes, resumed and bounded, not yet verified
//! ```
//!
//! Invariants:
//! - Manifests and configs are verified against their digest before anyone sees them ([`VerifiedBlob`]).
//!   Whoever reads a [`BlobStream`] hashes it: layers are too large to be held here.
//! - Credentials leave only for an endpoint that the node's configuration names for the registry, after that
//!   endpoint asked for them, and for the token server it names. They never follow a redirect to another origin.
//! - Everything a registry sends is bounded in size, and every wait in time.
//! - Nothing runs behind the caller's back: dropping a future or a stream ends its transfer.

mod auth;
mod blob;
mod config;
mod credentials;
mod error;
mod failure;
pub(crate) mod fuzzing;
mod hosts;
mod manifest;
mod platform;
mod resolve;
mod resolved;
mod source;
mod transport;

use std::sync::Arc;

use bytes::Bytes;
use cricket_model::Digest;

pub use self::auth::AuthConfig;
pub use self::blob::BlobStream;
pub use self::config::RegistryConfig;
pub use self::credentials::kubelet_credential_files;
pub use self::error::{Attempt, Attempts, RegistryError};
pub use self::resolved::{Compression, LayerDescriptor, Platform, Resolved, VerifiedBlob};
pub use self::source::Source;
use crate::reference::Reference;

/// Manifests and configs that the caller keeps: what is known is not fetched again.
///
/// Give only what the same repository gave before. A registry says which digest its tag has, and could otherwise name
/// what belongs to another one.
pub trait KnownContent: Sync {
    /// The bytes of that digest. They are hashed before use.
    fn blob(&self, digest: &Digest) -> Option<Bytes>;
}

/// The client of every registry. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    config: Arc<RegistryConfig>,
    clients: hosts::clients::Clients,
    tokens: Arc<auth::token::Tokens>,
}

impl Registry {
    /// A client with these settings. Nothing is read and nobody is asked yet.
    pub fn new(config: RegistryConfig) -> Self {
        let clients = hosts::shared(&config);
        Self(Arc::new(Inner { config: Arc::new(config), clients, tokens: Arc::default() }))
    }

    /// The endpoints of a reference, for fetching blobs that are known by digest.
    ///
    /// # Errors
    /// The node's files for this registry, or the credentials, cannot be used.
    pub async fn source(&self, reference: &Reference, auth: Option<&AuthConfig>) -> Result<Source, RegistryError> {
        let (inner, registry) = (self.0.clone(), reference.registry().to_owned());
        let given = source::is_given(auth);
        let load = move || {
            let hosts = hosts::load(&inner.config, &registry, &inner.clients)?;
            let files: &[_] = if given { &[] } else { &inner.config.credential_files };
            Ok((hosts, credentials::NodeCredentials::load(files)))
        };
        let (hosts, node) = tokio::task::spawn_blocking(load).await.map_err(|e| RegistryError::Config {
            path: reference.registry().to_owned(),
            cause: format!("reading it failed: {e}"),
        })??;
        Source::new(reference, hosts, auth, &node, self.0.config.clone(), &self.0.tokens)
    }

    /// Finds the image that the reference names for the platform. With `known`, the registry is asked for the digest
    /// first, and whatever the caller has is not fetched again.
    ///
    /// # Errors
    /// Every endpoint failed, the content is malformed, unsupported or over a bound, or there is no image for the
    /// platform.
    pub async fn resolve(
        &self,
        reference: &Reference,
        auth: Option<&AuthConfig>,
        platform: &Platform,
        known: Option<&dyn KnownContent>,
    ) -> Result<Resolved, RegistryError> {
        let source = self.source(reference, auth).await?;
        resolve::resolve(&source, platform, known).await
    }

    /// Opens a layer's blob at a byte offset. The stream begins exactly there, whatever the server made of it.
    ///
    /// # Errors
    /// No endpoint could be opened; the stream itself tells of what happens later.
    pub async fn fetch_blob(
        &self,
        source: &Source,
        layer: &LayerDescriptor,
        offset: u64,
    ) -> Result<BlobStream, RegistryError> {
        BlobStream::open(source.clone(), layer.digest.clone(), layer.size, offset).await
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("config", &self.0.config).finish_non_exhaustive()
    }
}
