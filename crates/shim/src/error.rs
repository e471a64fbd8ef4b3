//! What can go wrong between a shim and its user.

use std::io;

/// A failure of this crate's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{action}: {source}")]
    Io {
        /// What was done.
        action: String,
        /// The cause.
        source: io::Error,
    },
    /// The shim answered with an error.
    #[error("{method}: {message}")]
    Status {
        /// The method of the task service.
        method: &'static str,
        /// gRPC's code.
        code: i32,
        /// What the shim said, cut.
        message: String,
    },
    /// It sent what no message can begin with, or no answer.
    #[error("the shim broke the protocol: {0}")]
    Protocol(String),
    /// What `start` printed is no bootstrap answer.
    #[error("the shim's answer to start: {0}")]
    Bootstrap(String),
}

/// gRPC's NOT_FOUND.
const NOT_FOUND: i32 = 5;

impl Error {
    pub(crate) fn io(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { action: action.into(), source: source.into() }
    }

    /// The shim does not know the container or the process.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: NOT_FOUND, .. })
    }

    /// There is no shim to be spoken with (any more). One that does not answer in time may live.
    pub fn is_gone(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected, NotFound, UnexpectedEof};
        let Self::Io { source, .. } = self else { return false };
        matches!(
            source.kind(),
            BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected | NotFound | UnexpectedEof
        )
    }
}

/// A result of this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;
