//! Resolves, pulls, verifies, unpacks, caches and mounts images.

#![forbid(unsafe_code)]

pub mod reference;
pub mod registry;
