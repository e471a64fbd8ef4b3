//! What can go wrong between a reference and its bytes.
//!
//! A pull may ask several endpoints. The error keeps one [`Attempt`] for each, and its variant is that of the
//! endpoint whose answer counts most.

use std::fmt;

use cricket_model::{Digest, ErrorKind, Kinded};

/// What one endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The endpoint's base address.
    pub endpoint: String,
    /// The cause, in words a person can act on.
    pub cause: String,
}

/// The attempts of one operation, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts(pub Vec<Attempt>);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, a) in self.0.iter().enumerate() {
            let comma = if i > 0 { "; " } else { "" };
            write!(f, "{comma}{}: {}", a.endpoint, a.cause)?;
        }
        Ok(())
    }
}

/// A failed registry operation. `what` names the reference, or the reference and the blob.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No endpoint has it.
    #[error("{what}: not found: {attempts}")]
    NotFound {
        /// The reference or blob.
        what: String,
        /// Every endpoint asked.
        attempts: Attempts,
    },
    /// Credentials are missing or refused (401).
    #[error("{what}: unauthorized: {attempts}")]
    Unauthorized {
        /// The reference or blob.
        what: String,
        /// Every endpoint asked.
        attempts: Attempts,
    },
    /// The registry forbids it (403).
    #[error("{what}: access denied: {attempts}")]
    Forbidden {
        /// The reference or blob.
        what: String,
        /// Every endpoint asked.
        attempts: Attempts,
    },
    /// Too many requests (429).
    #[error("{what}: rate limited: {attempts}")]
    RateLimited {
        /// The reference or blob.
        what: String,
        /// Every endpoint asked.
        attempts: Attempts,
    },
    /// Nobody could be reached, or answered 5xx or outside the protocol.
    #[error("{what}: {attempts}")]
    Unavailable {
        /// The reference or blob.
        what: String,
        /// Every endpoint asked.
        attempts: Attempts,
    },
    /// The transfer stood still.
    #[error("{what}: timed out: {attempts}")]
    TimedOut {
        /// The reference or blob.
        what: String,
        /// Every endpoint asked.
        attempts: Attempts,
    },
    /// The bytes are not the ones that were named.
    #[error("{what}: digest mismatch: want {expected}, got {actual}")]
    DigestMismatch {
        /// What was hashed.
        what: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The image exists, for other platforms.
    #[error("{what}: no match for platform {wanted}; there is {available}")]
    NoMatch {
        /// The reference.
        what: String,
        /// The platform asked for.
        wanted: String,
        /// The platforms there are, separated by commas.
        available: String,
    },
    /// The registry's content is malformed, unsupported or over a bound.
    #[error("{what}: {cause}")]
    Invalid {
        /// The reference or blob.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The node's own configuration cannot be used.
    #[error("registry configuration {path}: {cause}")]
    Config {
        /// The file or table.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl Kinded for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoMatch { .. } => ErrorKind::NotFound,
            Self::Unauthorized { .. } => ErrorKind::Unauthenticated,
            Self::Forbidden { .. } => ErrorKind::PermissionDenied,
            Self::RateLimited { .. } => ErrorKind::ResourceExhausted,
            Self::Unavailable { .. } => ErrorKind::RegistryUnavailable,
            Self::TimedOut { .. } => ErrorKind::DeadlineExceeded,
            Self::DigestMismatch { .. } => ErrorKind::DataLoss,
            Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Config { .. } => ErrorKind::FailedPrecondition,
        }
    }
}
