//! Resolves, pulls, verifies, unpacks, caches and mounts images.
//!
//! ```text
//! ImageStore ── pull ──▶ registry ──▶ unpack ──▶ layers/<diff id>/{fs,manifest}
//!     │                                              │ shared by images
//!     ├─ records (redb): images, verified layers     ▼
//!     └─ create_rootfs / mount_rootfs ──▶ overlay of the layers and a container's own upper directory
//! ```
//!
//! Invariants: everything that comes from a registry or an archive is hostile until its digest and its bounds were
//! checked; a layer counts only once a record says that this node verified it; references to layers are derived from
//! the records of images and containers, never counted.

#![forbid(unsafe_code)]

pub mod reference;
pub mod registry;

#[doc(hidden)]
pub mod fuzzing;

mod config;
mod error;
mod image;
mod store;
mod unpack;
mod verifier;

pub use config::{ImageStoreConfig, host_platform};
pub use error::{Error, Result};
pub use image::{Image, ImageConfiguration};
pub use registry::AuthConfig;
pub use store::{Damage, FsKind, FsUsage, ImageStore, Pruned};
pub use verifier::VerifierConfig;
