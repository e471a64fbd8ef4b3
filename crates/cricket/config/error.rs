//! Why a configuration cannot be used.

use std::io;
use std::path::PathBuf;

use super::node::Place;

/// An error of the configuration; each names the file, and the line and key where there is one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than any configuration, or there are too many of them.
    #[error("{}: {reason}", path.display())]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The bound.
        reason: String,
    },
    /// Not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A value that makes no sense.
    #[error("{place}: {}: {reason}", place.key)]
    Value {
        /// Where.
        place: Place,
        /// Why not.
        reason: String,
    },
    /// A flag's value that makes no sense.
    #[error("{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Why not.
        reason: String,
    },
    /// A key that cricket's own table does not have.
    #[error("{place}: unknown key {}; [{table}] has: {known}", place.key)]
    Unknown {
        /// Where.
        place: Place,
        /// The table.
        table: String,
        /// The keys that exist.
        known: String,
    },
}

/// The result of reading the configuration.
pub(crate) type Result<T> = std::result::Result<T, ConfigError>;
