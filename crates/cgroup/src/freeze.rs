//! Freezing and thawing: v1 `freezer.state`, v2 `cgroup.freeze`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::hierarchy::Version;
use crate::{Cgroup, Error, Result, files};

/// How long the kernel may take to stop every task; one in uninterruptible sleep may never stop.
const FREEZE_LIMIT: Duration = Duration::from_millis(500);

impl Cgroup {
    /// Stops every task in the cgroup and below. Fails with [`Error::TimedOut`] when one cannot be stopped within
    /// half a second; the request stays in force until [`Cgroup::thaw`].
    pub fn freeze(&self) -> Result<()> {
        let (dir, version) = self.freezer()?;
        let start = Instant::now();
        let (file, value) = match version {
            Version::V1 => (dir.join("freezer.state"), "FROZEN"),
            Version::V2 => (dir.join("cgroup.freeze"), "1"),
        };
        let mut wait = Duration::from_micros(100);
        // v1 tries only at each write to stop what was forked or woken meanwhile, so the write is repeated.
        files::write(&file, value)?;
        while !self.is_frozen()? {
            if start.elapsed() > FREEZE_LIMIT {
                return Err(Error::TimedOut { action: "freeze", path: dir, millis: FREEZE_LIMIT.as_millis() as u64 });
            }
            sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(20));
            if version == Version::V1 {
                files::write(&file, value)?;
            }
        }
        Ok(())
    }

    /// Lets the tasks go on.
    pub fn thaw(&self) -> Result<()> {
        let (dir, version) = self.freezer()?;
        match version {
            Version::V1 => files::write(&dir.join("freezer.state"), "THAWED"),
            Version::V2 => files::write(&dir.join("cgroup.freeze"), "0"),
        }
    }

    /// Whether every task is stopped now.
    pub fn is_frozen(&self) -> Result<bool> {
        let (dir, version) = self.freezer()?;
        Ok(match version {
            Version::V1 => files::read(&dir.join("freezer.state"))?.trim() == "FROZEN",
            Version::V2 => files::keyed(&files::read(&dir.join("cgroup.events"))?, "frozen") == Some(1),
        })
    }

    fn freezer(&self) -> Result<(std::path::PathBuf, Version)> {
        // On a hybrid host the unified directory has cgroup.freeze as well; the v1 freezer goes first where mounted.
        self.controller("freezer").ok_or(Error::NoHierarchy)
    }
}
