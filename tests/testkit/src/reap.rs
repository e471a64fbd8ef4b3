//! Removes what a daemon and its pods have left. It needs no help from the
//! daemon: that may be dead, or be what is broken.

use crate::{host, leaks};
use anyhow::{Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;

/// Kills every process with the mark but those to spare, until none is left.
pub fn processes(mark: &str, spare: &[i32]) -> Result<()> {
    host::wait_for("killed processes to go", Duration::from_secs(10), || {
        let mut left = leaks::processes(mark)?;
        left.retain(|process| !spare.contains(&process.pid));
        for process in &left {
            // It may have gone since it was listed.
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        Ok(left.is_empty().then_some(()))
    })
}

/// Detaches every mount below the directories, the newest first.
pub fn mounts(dirs: &[&Path]) -> Result<()> {
    let mut failed = Vec::new();
    for point in leaks::mounts(dirs)?.into_iter().rev() {
        if let Err(error) = umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            failed.push(format!("{}: {error}", point.display()));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("not unmounted: {}", failed.join(", ")) }
}

/// Removes every control group with the mark. Their processes must be gone.
pub fn cgroups(mark: &str) -> Result<()> {
    host::wait_for("control groups to be empty", Duration::from_secs(10), || {
        for group in leaks::cgroups(mark)?.into_iter().rev() {
            // A group that has just lost its last process can be busy for a moment.
            let _ = std::fs::remove_dir(&group);
        }
        Ok(leaks::cgroups(mark)?.is_empty().then_some(()))
    })
}
