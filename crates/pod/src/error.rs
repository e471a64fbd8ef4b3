//! The pod driver's error: a kind, a sentence, and the cause.

use std::fmt::Display;
use std::sync::Arc;

use cricket_model::{ErrorKind, Kinded};
use cricket_runtime::monitor::MonitorError;

/// Why an operation on a pod or container failed. Cheap to clone: every caller that joined a create gets the same one.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: Arc<str>,
}

/// Result of an operation on a pod or container.
pub type Result<T> = std::result::Result<T, Error>;

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl Error {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Display) -> Self {
        Self { kind, message: message.to_string().into() }
    }

    /// An error of the given kind whose message is `what: cause`.
    pub fn caused(kind: ErrorKind, what: impl Display, cause: &dyn std::error::Error) -> Self {
        Self::new(kind, format_args!("{what}: {}", Chain(cause)))
    }

    /// Wraps another crate's error, keeping its kind.
    pub fn from_kinded<E: Kinded>(what: impl Display, cause: &E) -> Self {
        Self::caused(cause.kind(), what, cause)
    }

    /// Something that the host or cricket itself got wrong.
    pub fn internal(what: impl Display, cause: &dyn std::error::Error) -> Self {
        Self::caused(ErrorKind::Internal, what, cause)
    }

    /// A request that the pod's monitor did not answer. `Unavailable` when there is none at this moment: asking again helps.
    pub(crate) fn monitor(cause: &MonitorError) -> Self {
        Self::caused(unanswered(cause), "ask the monitor", cause)
    }

    /// The request is malformed.
    pub fn invalid(message: impl Display) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// There is no such object.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(ErrorKind::NotFound, format_args!("{what} {id:?} not found"))
    }

    /// The object's state does not allow it.
    pub fn precondition(message: impl Display) -> Self {
        Self::new(ErrorKind::FailedPrecondition, message)
    }
}

/// The kind of a failure of which the pod's monitor, or its absence, is the cause.
pub(crate) fn unanswered(cause: &MonitorError) -> ErrorKind {
    match cause {
        MonitorError::Lost | MonitorError::NotRunning => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// Prints an error with its sources, each after a colon, leaving out a source that its parent printed already.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let more = cause.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            next = cause.source();
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_every_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let e = Error::internal("write /x", &io);
        assert_eq!(e.to_string(), "write /x: disk on fire");
        assert_eq!(Error::internal("create", &e).to_string(), "create: write /x: disk on fire");
    }
}
