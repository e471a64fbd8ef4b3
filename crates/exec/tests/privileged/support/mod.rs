//! What the tests share: a container-like process, and the helper started as the monitor starts it.

mod container;
mod helper;

pub(crate) use container::Container;
pub(crate) use helper::{Outcome, command, execute, run};

use cricket_process::caps::Sets;

/// The lines of a `/proc/PID/status`.
pub(crate) struct Status(pub(crate) String);

impl Status {
    /// The value of a line.
    pub(crate) fn field(&self, name: &str) -> &str {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.0)).trim()
    }

    /// The capability sets.
    pub(crate) fn capabilities(&self) -> Sets {
        Sets::parse_status(&self.0).expect("capabilities")
    }
}
