//! What can go wrong between a pod and its networks.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use cricket_model::{ErrorKind, Kinded, SandboxId};

use crate::NotReady;

/// A CNI operation, the value of `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Status,
}

impl Verb {
    /// The text of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How one run of one plugin failed.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No executable of that name in any plugin directory.
    #[error("no such program in {0:?}")]
    NotFound(Vec<PathBuf>),
    /// The program could not be started.
    #[error("cannot start {path:?}: {source}")]
    Spawn {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Waiting for it, or reading what it printed, failed.
    #[error("cannot follow the process: {0}")]
    Io(#[from] io::Error),
    /// It ran too long and was killed with its process group.
    #[error("killed after {0:?}")]
    Timeout(Duration),
    /// It printed more than the bound and was killed with its process group.
    #[error("printed more than {0} bytes")]
    TooMuchOutput(usize),
    /// It failed without a CNI error object; `output` is the bounded end of what it printed.
    #[error("{status}: {output}")]
    Exit {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// It reported a CNI error object (specification, section 5, "Error").
    #[error("{msg} (code {code}){}{details}", if details.is_empty() { "" } else { ": " })]
    Reported {
        /// 1 to 99 are the specification's, 11 is "try again later".
        code: u64,
        /// Short text.
        msg: String,
        /// Long text, may be empty.
        details: String,
    },
    /// It succeeded, but what it printed is no result.
    #[error("invalid result: {0}")]
    Result(String),
}

impl PluginError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::Unavailable,
            Self::Timeout(_) => ErrorKind::DeadlineExceeded,
            Self::TooMuchOutput(_) => ErrorKind::ResourceExhausted,
            // 11: try again later; 50 and 51: the plugin is not available (for now).
            Self::Reported { code: 11 | 50 | 51, .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }
}

/// An operation on a sandbox's networks failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no network to attach to.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The pod's data cannot be handed to a plugin.
    #[error("{field}: {reason}")]
    InvalidArgument {
        /// Which value.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A plugin failed.
    #[error("network {network:?}: plugin {plugin:?}: {verb}: {source}")]
    Plugin {
        /// Name of the network.
        network: String,
        /// The plugin's `type`.
        plugin: String,
        /// The operation.
        verb: Verb,
        /// How it failed.
        source: PluginError,
    },
    /// The plugins' results do not describe a usable network.
    #[error("network {network:?}: {reason}")]
    Network {
        /// Name of the network.
        network: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The record store refused a record.
    #[error("network record of sandbox {sandbox}: {source}")]
    Store {
        /// The sandbox.
        sandbox: SandboxId,
        /// Why.
        source: cricket_store::Error,
    },
    /// The record store cannot be read.
    #[error("read the network records: {0}")]
    Records(#[source] cricket_store::Error),
    /// The sandbox already has a record: it must be deleted before it is added again.
    #[error("sandbox {0} already has a network record")]
    AlreadyAttached(SandboxId),
    /// The sandbox has no finished ADD.
    #[error("sandbox {0} is not attached to its networks")]
    NotAttached(SandboxId),
    /// A record or its directory cannot be read or written.
    #[error("{path:?}: {source}")]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record is not what this program writes.
    #[error("{path:?}: invalid network record: {reason}")]
    CorruptRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration directories cannot be watched.
    #[error("cannot watch {path:?}: {source}")]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A collection was ended after so long, since something else waited for it.
    #[error("gave way to another operation after {0:?}")]
    GaveWay(Duration),
    /// Everything was tried; these parts failed. Never empty.
    #[error("{} of the steps failed: {}", .0.len(), join(.0))]
    Several(Vec<Error>),
}

fn join(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotReady(_) | Self::GaveWay(_) => ErrorKind::Unavailable,
            Self::InvalidArgument { .. } => ErrorKind::InvalidArgument,
            Self::Plugin { source, .. } => source.kind(),
            Self::AlreadyAttached(_) => ErrorKind::AlreadyExists,
            Self::NotAttached(_) => ErrorKind::FailedPrecondition,
            Self::Network { .. } | Self::Watch { .. } => ErrorKind::Internal,
            Self::Cache { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
                _ => ErrorKind::Internal,
            },
            Self::Store { source, .. } | Self::Records(source) => source.kind(),
            Self::CorruptRecord { .. } => ErrorKind::DataLoss,
            Self::Several(errors) => errors.first().map_or(ErrorKind::Internal, Kinded::kind),
        }
    }
}

/// Bounded, printable text from an untrusted program.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let clean: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match clean.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}
