//! One error type: what was attempted, and what the kernel said.

use std::io;

use cricket_model::{ErrorKind, Kinded};

/// An operation that the kernel (or a check before it) refused.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub struct Error {
    action: String,
    source: io::Error,
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `action` (a phrase like `open /x`), caused by `source`.
    pub fn new(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { action: action.into(), source: source.into() }
    }

    /// A refusal of this crate's own: the input is not what it has to be.
    pub(crate) fn invalid(action: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(action, io::Error::new(io::ErrorKind::InvalidInput, reason.into()))
    }

    /// The cause.
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// The kernel's error number, if the kernel answered.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// What was attempted and why it failed, in one line.
    pub fn to_line(&self) -> String {
        format!("{}: {}", self.action, self.source)
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ErrorKind::InvalidArgument,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
                ErrorKind::ResourceExhausted
            }
            io::ErrorKind::Unsupported => ErrorKind::Unimplemented,
            _ => ErrorKind::Internal,
        }
    }
}

/// Adds the attempted action to a failure.
pub trait Doing<T> {
    /// `action` is a phrase without the cause: `open /x`.
    fn doing<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::new(action(), source))
    }
}

/// The result of a raw system call: the value, or `errno` where it is -1.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
