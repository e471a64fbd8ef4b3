//! The client of OCI registries: what a reference names, and a layer's bytes.
//!
//! ```text
//! Registry ──resolve──▶ Resolved { digests, manifest, config, layers, source }
//!     └──fetch_blob(source, layer)──▶ BlobStream ──chunk()──▶ bytes, resumed and bounded, not yet verified
//! ```
//!
//! ```ignore
//! impl Registry {
//!     fn new(config: RegistryConfig) -> Registry;                     // cheap to clone
//!     async fn resolve(&self, &Reference, Option<&AuthConfig>, &Platform, Option<&dyn KnownContent>) -> Result<Resolved, RegistryError>;
//!     async fn source(&self, &Reference, Option<&AuthConfig>) -> Result<Source, RegistryError>;   // to fetch a lost layer again
//!     async fn fetch_blob(&self, &Source, &LayerDescriptor, offset: u64) -> Result<BlobStream, RegistryError>;
//! }
//! trait KnownContent: Sync { fn blob(&self, &Digest) -> Option<Bytes>; }  // manifests and configs the store keeps
//! impl BlobStream { async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError>; fn offset(&self) -> u64; } // always starts at the offset asked for
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
mod config;
mod error;
mod resolved;
mod source;

pub use auth::AuthConfig;
pub use config::RegistryConfig;
pub use error::{Attempt, RegistryError};
pub use resolved::{Compression, LayerDescriptor, Platform, Resolved, VerifiedBlob};
pub use source::Source;
