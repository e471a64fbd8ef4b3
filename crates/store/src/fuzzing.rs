//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use crate::{Record, Result, codec};

/// A record's bytes in the store.
///
/// # Errors
/// When it has no JSON form.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>> {
    codec::encode("", record)
}

/// A record from its bytes in the store.
///
/// # Errors
/// What is wrong with them.
pub fn decode<R: Record>(bytes: &[u8]) -> std::result::Result<R, String> {
    codec::decode(bytes)
}
