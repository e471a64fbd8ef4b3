//! What can go wrong with records and journals.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cricket_model::{ErrorKind, Kinded};

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the record store or of a journal. Cheap to clone: one failed write is reported to
/// every batch that was in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database file is damaged. Nothing was changed; see [`crate::Store::set_aside`].
    #[error("record store {}: file is corrupt: {detail}", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What the database found.
        detail: String,
    },
    /// Another process has the database open.
    #[error("record store {}: already open in another process", path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The file system has no space (or quota) left. What was committed before is intact.
    #[error("{}: no space left: {source}", path.display())]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// Any other input or output error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// A record exists but cannot be decoded; it is kept as it is.
    #[error("record {key:?} in table {table}: {detail}")]
    Undecodable {
        /// The table's name.
        table: &'static str,
        /// The record's key.
        key: String,
        /// Why.
        detail: String,
    },
    /// A value cannot be written as JSON.
    #[error("cannot encode record {key:?} for {table}: {detail}")]
    Encode {
        /// The table or file it was meant for.
        table: String,
        /// The record's key.
        key: String,
        /// Why.
        detail: String,
    },
    /// The database refused an operation for a reason of its own.
    #[error("record store {}: {detail}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
    /// The writing thread has ended, the store is being dropped.
    #[error("record store {}: closed", path.display())]
    Closed {
        /// The database file.
        path: PathBuf,
    },
}

impl Error {
    /// An I/O error of `path`, with full disks and exhausted quotas told apart.
    pub(crate) fn io(path: &std::path::Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { path, source: Arc::new(source) }
            }
            _ => Error::Io { path, source: Arc::new(source) },
        }
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Corrupt { .. } | Error::Undecodable { .. } => ErrorKind::DataLoss,
            Error::Locked { .. } => ErrorKind::FailedPrecondition,
            Error::NoSpace { .. } => ErrorKind::ResourceExhausted,
            Error::Closed { .. } => ErrorKind::Unavailable,
            Error::Io { .. } | Error::Encode { .. } | Error::Database { .. } => ErrorKind::Internal,
        }
    }
}
