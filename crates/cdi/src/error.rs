//! Why a container does not get the devices that it asks for.

use std::fmt;

use cricket_model::{ErrorKind, Kinded};

use crate::name::NameError;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// A refusal; the specification that was to be edited is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request's field names what is no device.
    #[error("cdi_devices: {0}")]
    Field(#[source] NameError),
    /// An annotation does.
    #[error("annotation {key}: {source}")]
    Annotation {
        /// The annotation.
        key: String,
        /// What is wrong with a name in it.
        source: NameError,
    },
    /// No usable specification has these devices.
    #[error("unresolvable CDI devices {}: {reason}", devices.join(", "))]
    Unresolved {
        /// The qualified names.
        devices: Vec<String>,
        /// Where they were looked for, and what was wrong there.
        reason: String,
    },
    /// A device is there, and cannot be given to the container.
    #[error("CDI device {device} ({file}): {reason}")]
    Edit {
        /// The qualified name.
        device: String,
        /// The file that says how.
        file: String,
        /// What is in the way.
        reason: Refusal,
    },
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Field(_) | Self::Annotation { .. } => ErrorKind::InvalidArgument,
            Self::Edit { reason: Refusal::Unsupported(_), .. } => ErrorKind::Unimplemented,
            // The same request succeeds once the node has the device.
            Self::Unresolved { .. } | Self::Edit { .. } => ErrorKind::FailedPrecondition,
        }
    }
}

/// Why an edit is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The handler or the kernel does not do it.
    Unsupported(String),
    /// This host or this container does not have what it takes.
    Host(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(reason) | Self::Host(reason) => f.write_str(reason),
        }
    }
}

/// `text` for a message: quoted, control characters escaped, at most 100 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(100).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
