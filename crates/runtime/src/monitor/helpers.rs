//! The programs that monitors run and are: read once, kept where nobody can change them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use cricket_process::memfd::seal;

use super::MonitorError;

/// The daemon's own helpers. Read-only copies in memory, so that nothing that runs them can change them (CVE-2019-5736), and shared, so
/// that any number of processes cost the memory of one.
#[derive(Debug)]
pub struct Helpers {
    /// `cricket-monitor`.
    pub monitor: OwnedFd,
    /// `cricket-launch`.
    pub launch: OwnedFd,
    /// `cricket-exec`.
    pub exec: OwnedFd,
}

impl Helpers {
    /// Reads `cricket-monitor`, `cricket-launch` and `cricket-exec` in `dir`. Blocks on the disk.
    pub fn load(dir: &Path) -> Result<Self, MonitorError> {
        let load = |name: &str| {
            let path = dir.join(name);
            let file = File::open(&path).map_err(MonitorError::io(format!("open {}", path.display())))?;
            seal(file, name)
                .map_err(|error| MonitorError::io(format!("load {}", path.display()))(io::Error::other(error)))
        };
        Ok(Self { monitor: load("cricket-monitor")?, launch: load("cricket-launch")?, exec: load("cricket-exec")? })
    }

    /// A duplicate of `launch`, for a request.
    pub fn launch(&self) -> Result<OwnedFd, MonitorError> {
        self.launch.try_clone().map_err(MonitorError::io("duplicate the descriptor of cricket-launch"))
    }

    /// A duplicate of `exec`, for a request.
    pub fn exec(&self) -> Result<OwnedFd, MonitorError> {
        self.exec.try_clone().map_err(MonitorError::io("duplicate the descriptor of cricket-exec"))
    }
}
