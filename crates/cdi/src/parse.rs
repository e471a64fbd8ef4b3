//! The bytes of a file: JSON or YAML, bounded.

use serde_saphyr::{DuplicateKeyPolicy, Options};

use crate::check;
use crate::model::Specification;

/// Most bytes of a file. One device takes a few hundred; the largest that are known describe sixteen cards with all
/// their partitions, below one MiB.
pub(crate) const MAX_BYTES: u64 = 4 << 20;
/// Longest message of a parser that is kept.
const MAX_MESSAGE: usize = 300;

/// What a file is written in; its name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.json`
    Json,
    /// `.yaml`
    Yaml,
}

/// A whole, valid specification, or what is wrong with it.
pub(crate) fn parse(bytes: &[u8], format: Format) -> Result<Specification, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    let spec = match format {
        Format::Json => serde_json::from_slice(bytes).map_err(|e| brief(&e.to_string())),
        Format::Yaml => {
            serde_saphyr::from_slice_with_options(bytes, options()).map_err(|e| brief(&e.without_snippet().to_string()))
        }
    }?;
    check::specification(&spec)?;
    Ok(spec)
}

/// Numbers such as `0660` are octal, as in the YAML of Go's programs; aliases are few.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: 32,
            max_aliases: 1024,
            max_anchors: 1024,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 65_536,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}

fn brief(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("cannot be read");
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
