//! Why a launch failed, and whose fault it is.

use std::fmt::Display;
use std::io;

use cricket_wire::helper::{Blame, Failure};

/// Longest message in a report; the rest is cut.
const MAX_MESSAGE: usize = 8 * 1024;

/// A failure that ends the helper.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    message: String,
    blame: Blame,
    shell_status: i32,
}

impl Error {
    fn new(message: impl Into<String>, blame: Blame, shell_status: i32) -> Self {
        Self { message: message.into(), blame, shell_status }
    }

    /// The host's or cricket's fault.
    pub(crate) fn host(message: impl Into<String>) -> Self {
        Self::new(message, Blame::Host, 0)
    }

    /// The image's or the pod's fault.
    pub(crate) fn content(message: impl Into<String>) -> Self {
        Self::new(message, Blame::Content, 0)
    }

    /// The command's fault; the status is what a shell would answer with.
    pub(crate) fn command(message: impl Into<String>, shell_status: i32) -> Self {
        Self::new(message, Blame::Command, shell_status)
    }

    /// A system call of the helper failed.
    pub(crate) fn io(action: impl Display, source: impl Into<io::Error>) -> Self {
        Self::host(format!("{action}: {}", source.into()))
    }

    /// An error of another crate, with its causes.
    pub(crate) fn chain(action: impl Display, error: &dyn std::error::Error) -> Self {
        let mut message = format!("{action}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Transparent wrappers repeat their cause's words.
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        Self::host(message)
    }

    pub(crate) fn into_failure(self) -> Failure {
        let mut message = self.message;
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(end);
        }
        Failure { message, blame: self.blame.into(), shell_status: self.shell_status }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let blame = failure.blame();
        Self::new(failure.message, blame, failure.shell_status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let failure = Error::host("é".repeat(MAX_MESSAGE)).into_failure();
        assert!(failure.message.len() <= MAX_MESSAGE && failure.message.len() > MAX_MESSAGE - 2);
    }

    #[test]
    fn chains_do_not_repeat() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("inner"));
        assert_eq!(Error::chain("do", &error).to_string(), "do: outer: inner");
    }
}
