//! Why nothing was made, and who is to blame.

use std::io;

use cricket_wire::helper::{self, Blame, MAX_REPORT};

/// A failure on its way to the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    blame: Blame,
    shell_status: i32,
}

impl Failure {
    /// The host, the kernel or cricket failed.
    pub(crate) fn host(message: impl Into<String>) -> Self {
        Self { message: message.into(), blame: Blame::Host, shell_status: 0 }
    }

    /// The container's content is not what it has to be; a shell would answer "cannot execute".
    pub(crate) fn content(message: impl Into<String>) -> Self {
        Self { message: message.into(), blame: Blame::Content, shell_status: 126 }
    }

    /// The command cannot be executed: 126, or 127 when there is none.
    pub(crate) fn command(message: impl Into<String>, shell_status: i32) -> Self {
        Self { message: message.into(), blame: Blame::Command, shell_status }
    }

    /// The process that was to be joined has ended.
    pub(crate) fn gone() -> Self {
        Self { message: "the container is not running any more".into(), blame: Blame::Gone, shell_status: 0 }
    }

    /// Whether it may be the consequence of something else, such as the container's end.
    pub(crate) fn is_host(&self) -> bool {
        self.blame == Blame::Host
    }

    /// What a child that failed exits with.
    pub(crate) fn exit_code(&self) -> i32 {
        if self.shell_status == 0 { 126 } else { self.shell_status }
    }

    /// As the report carries it, cut to fit.
    pub(crate) fn into_wire(mut self) -> helper::Failure {
        let mut end = self.message.len().min(MAX_REPORT - 256);
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        self.message.truncate(end);
        helper::Failure { message: self.message, blame: self.blame.into(), shell_status: self.shell_status }
    }
}

impl From<helper::Failure> for Failure {
    fn from(wire: helper::Failure) -> Self {
        let blame = wire.blame();
        Self { message: wire.message, blame, shell_status: wire.shell_status }
    }
}

impl From<cricket_process::Error> for Failure {
    fn from(error: cricket_process::Error) -> Self {
        Self::host(error.to_line())
    }
}

/// Adds what was attempted; the host is to blame.
pub(crate) trait Doing<T> {
    fn doing(self, action: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, action: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::host(format!("{action}: {}", error.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let wire = Failure::command("é".repeat(MAX_REPORT), 127).into_wire();
        assert!(wire.message.len() <= MAX_REPORT - 256 && wire.message.ends_with('é'));
        assert_eq!(Failure::from(wire.clone()).into_wire(), wire);
    }
}
