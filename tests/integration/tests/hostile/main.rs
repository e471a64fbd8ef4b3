//! What images, registries and requests may try.
