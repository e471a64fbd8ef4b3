//! Why a configuration cannot be turned into a specification. Every error names the CRI field it is about.

use cricket_model::{ErrorKind, Kinded};

/// A refusal. Nothing was done: this crate has no effects.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request contradicts itself, the CRI definition, or names something impossible.
    #[error("{field}: {reason}")]
    Invalid {
        /// The CRI field, dotted, as in `linux.security_context.run_as_user`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image lacks what the request relies on (a user, a command) or its own defaults are malformed.
    #[error("image: {reason}")]
    Image {
        /// What is wrong with it.
        reason: String,
    },
    /// This host cannot enforce what was asked for, and skipping it would weaken the container silently.
    #[error("{field}: this host cannot enforce it: {reason}")]
    Host {
        /// The CRI field.
        field: String,
        /// What the host lacks.
        reason: String,
    },
    /// The handler or this build does not do it.
    #[error("{field}: not supported: {reason}")]
    Unsupported {
        /// The CRI field.
        field: String,
        /// What is missing.
        reason: String,
    },
    /// More entries or bytes than a specification may hold.
    #[error("{field}: {actual} is more than the limit of {limit}")]
    TooLarge {
        /// The CRI field.
        field: String,
        /// What was given (entries or bytes, as the field is counted).
        actual: usize,
        /// The bound.
        limit: usize,
    },
    /// A seccomp profile is not the JSON that it has to be.
    #[error("{field}: the seccomp profile cannot be read")]
    Seccomp {
        /// The CRI field.
        field: String,
        /// The parser's message.
        #[source]
        source: serde_json::Error,
    },
    /// The caller did not pass what the configuration needs (a namespace of the sandbox, a profile's content).
    #[error("{0} was not given")]
    Missing(&'static str),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn image(reason: impl Into<String>) -> Self {
        Self::Image { reason: reason.into() }
    }

    pub(crate) fn host(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Host { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { field: field.into(), reason: reason.into() }
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            // Trying again as it is helps none of these.
            Self::Invalid { .. } | Self::Seccomp { .. } | Self::Image { .. } | Self::TooLarge { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Host { .. } => ErrorKind::FailedPrecondition,
            Self::Unsupported { .. } => ErrorKind::Unimplemented,
            Self::Missing(_) => ErrorKind::Internal,
        }
    }
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// `text` for an error message: quoted, control characters escaped, at most 100 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(100).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
