//! The crate's one error type.

use std::io;
use std::path::{Path, PathBuf};

use cricket_model::{ErrorKind, Kinded};

/// Why something with a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A path that cannot be a cgroup's.
    #[error("invalid cgroup path {path:?}: {why}")]
    InvalidPath {
        /// The text as given, cut.
        path: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A value that no cgroup takes, or that this version of cgroups has no file for.
    #[error("invalid resource {field}: {why}")]
    InvalidResource {
        /// The field of [`crate::Resources`].
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// The kernel refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A bound was reached before the kernel was done.
    #[error("{action} {path}: not done after {millis} ms")]
    TimedOut {
        /// What was waited for.
        action: &'static str,
        /// The cgroup's directory.
        path: PathBuf,
        /// How long.
        millis: u64,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup hierarchy with a cpu or memory controller is mounted")]
    NoHierarchy,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn resource(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::InvalidResource { field: field.into(), why: why.into() }
    }

    /// The kernel's errno, where the kernel refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The cgroup is not there (any more).
    pub fn is_gone(&self) -> bool {
        use rustix::io::Errno;
        self.errno().is_some_and(|e| e == Errno::NOENT.raw_os_error() || e == Errno::NODEV.raw_os_error())
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidPath { .. } | Self::InvalidResource { .. } => ErrorKind::InvalidArgument,
            Self::TimedOut { .. } => ErrorKind::DeadlineExceeded,
            Self::Io { .. } if self.is_gone() => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        }
    }
}
