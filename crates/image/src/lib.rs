//! Resolves, pulls, verifies, unpacks, caches and mounts images.

#![forbid(unsafe_code)]
