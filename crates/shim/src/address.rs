//! Where a shim listens.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Longest path of a socket (unix(7)).
const MAX_PATH: usize = 107;

/// A unix socket in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(PathBuf);

impl Address {
    /// Reads `unix:///path`, as shims print it, or a path.
    ///
    /// # Errors
    /// For other transports, and for what no socket's path can be.
    pub fn parse(text: &str) -> Result<Self> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        let shown: String = text.chars().take(MAX_PATH).collect();
        let fail = |reason: &str| Error::Bootstrap(format!("address {shown:?}: {reason}"));
        if !path.starts_with('/') {
            return Err(fail("want unix:// and an absolute path"));
        }
        if path.len() > MAX_PATH {
            return Err(fail("longer than the path of a socket can be"));
        }
        if path.chars().any(char::is_control) {
            return Err(fail("control characters"));
        }
        Ok(Self(PathBuf::from(path)))
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}
