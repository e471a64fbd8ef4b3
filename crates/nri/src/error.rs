//! What can go wrong with plugins.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::merge::MergeError;

/// A status that one side answered the other with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (status {code})")]
pub(crate) struct Status {
    /// gRPC's code.
    pub(crate) code: i32,
    /// For a person.
    pub(crate) message: String,
}

/// Why a call of a plugin has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The connection is gone.
    #[error("its connection is closed")]
    Closed,
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It sent what no answer can be.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// It refused.
    #[error(transparent)]
    Status(#[from] Status),
    /// The request does not fit a message.
    #[error("a request of {0} bytes is larger than a message may be")]
    TooLarge(usize),
}

/// A failure of this crate's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be listened on.
    #[error("listen on {}: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The plugin directory or a plugin's configuration cannot be read.
    #[error("plugin directory: {}: {reason}", path.display())]
    Directory {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A plugin could not be made part of this.
    #[error("plugin {plugin}: {reason}")]
    Start {
        /// Its name, or where it came from.
        plugin: String,
        /// What went wrong.
        reason: String,
    },
    /// A plugin refused, or failed and its policy is to fail the request.
    #[error("plugin {plugin}: {method}: {reason}")]
    Refused {
        /// Its name.
        plugin: String,
        /// The request.
        method: &'static str,
        /// What it said, or how it failed.
        reason: String,
    },
    /// Plugins contradict each other.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// A validator does not allow the adjustments.
    #[error("validator {validator} rejected the adjustments: {reason}")]
    Rejected {
        /// Its name.
        validator: String,
        /// What it said.
        reason: String,
    },
    /// An adjustment that the specification, the handler or the host cannot take.
    #[error("adjustment of {field}: {reason}")]
    Adjustment {
        /// What was to be adjusted.
        field: &'static str,
        /// Why it cannot.
        reason: String,
    },
}

impl Error {
    pub(crate) fn start(plugin: impl Into<String>, reason: impl ToString) -> Self {
        Self::Start { plugin: plugin.into(), reason: reason.to_string() }
    }

    pub(crate) fn adjustment(field: &'static str, reason: impl ToString) -> Self {
        Self::Adjustment { field, reason: reason.to_string() }
    }
}

/// A result of this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;
