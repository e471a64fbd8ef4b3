//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use crate::PsiStats;

/// The number after `key ` in a flat keyed file.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    crate::files::keyed(text, key)
}

/// A pressure file.
pub fn psi(text: &str) -> Option<PsiStats> {
    PsiStats::parse(text)
}
