//! CPU time of one side alone: its daemon is put into a control group below
//! the one that its pods have in common, whose clock then counts the daemon,
//! its helpers, the plugins and the containers, also those that have ended,
//! but nothing that the kernel's own threads do.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the controller may be mounted: v1 by itself, v1 with `cpu`, v2.
const MOUNTS: [&str; 3] = ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"];

/// The clock of everything with one mark.
pub(crate) struct Account {
    dir: PathBuf,
}

impl Account {
    /// Moves the daemon; the group goes when the daemon's mark is cleaned up.
    pub(crate) fn open(mark: &str, daemon: i32) -> Result<Self> {
        let dir = MOUNTS.iter().map(|mount| Path::new(mount).join(mark)).find(|dir| read(dir).is_some());
        let dir = dir.with_context(|| format!("no control group {mark} that counts CPU time"))?;
        let leaf = dir.join("daemon");
        fs::create_dir_all(&leaf).with_context(|| leaf.display().to_string())?;
        fs::write(leaf.join("cgroup.procs"), daemon.to_string()).with_context(|| leaf.display().to_string())?;
        Ok(Self { dir })
    }

    /// Seconds so far.
    pub(crate) fn seconds(&self) -> Result<f64> {
        read(&self.dir).with_context(|| format!("{}: no CPU time", self.dir.display()))
    }
}

/// v1: `cpuacct.usage` in nanoseconds. v2: `usage_usec` of `cpu.stat`, which every group has.
fn read(dir: &Path) -> Option<f64> {
    if let Ok(text) = fs::read_to_string(dir.join("cpuacct.usage")) {
        return text.trim().parse::<f64>().ok().map(|nanos| nanos / 1e9);
    }
    parse_stat(&fs::read_to_string(dir.join("cpu.stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<f64> {
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.parse::<f64>().ok().map(|micros| micros / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_of_version_2() {
        assert_eq!(parse_stat("usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n"), Some(2.5));
        assert_eq!(parse_stat("nr_periods 0\n"), None);
    }
}
