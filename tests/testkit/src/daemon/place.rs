//! The directories of one daemon, and what is found and removed by their mark.

use crate::{host, leaks, reap};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where network namespaces are pinned in production.
const NAMESPACES: &str = "/run/netns";

/// Short, for the 107 bytes of a socket's path. `home` is below `/run`, which
/// is a tmpfs on real nodes; `root` is where overlay's upper directories work.
pub(super) struct Place {
    pub(super) mark: String,
    pub(super) home: PathBuf,
    pub(super) root: PathBuf,
    /// Held while the owner lives: who gets it otherwise may remove the place.
    _lock: File,
}

const HOMES: &str = "/run";
/// Where `--root` directories are made, unless `CRICKET_TEST_ROOTS` names another place: `/var/lib` may itself be on an
/// overlay, on which overlay's upper directories do not work.
const ROOTS: &str = "/var/lib";
const PREFIX: &str = "ck-";

/// What a daemon without pods has on the host.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    mounts: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    namespaces: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
}

impl Place {
    pub(super) fn new() -> Result<Self> {
        let mark = format!("{PREFIX}{}", host::unique());
        let home = Path::new(HOMES).join(&mark);
        std::fs::create_dir(&home).with_context(|| home.display().to_string())?;
        // Root filesystems are below: user namespaces must be able to pass.
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o711))?;
        Self::lock(mark, home)?.context("a new directory is somebody else's")
    }

    /// The places of owners that were killed before they could clean up.
    pub(super) fn abandoned() -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for mark in leaks::names(Path::new(HOMES)).into_iter().filter(|name| name.starts_with(PREFIX)) {
            let home = Path::new(HOMES).join(&mark);
            // A young one may be about to be locked by its owner.
            let made = home.join("lock").metadata().and_then(|metadata| metadata.modified());
            if made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > Duration::from_secs(5))) {
                found.extend(Self::lock(mark, home)?);
            }
        }
        Ok(found)
    }

    fn lock(mark: String, home: PathBuf) -> Result<Option<Self>> {
        let path = home.join("lock");
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        let roots = std::env::var_os("CRICKET_TEST_ROOTS").map_or_else(|| PathBuf::from(ROOTS), PathBuf::from);
        let root = roots.join(&mark);
        // Made only when it is ours: dropping one removes the place.
        Ok(lock.try_lock().is_ok().then(|| Self { mark, home, root, _lock: lock }))
    }

    /// Where cricket answers cAdvisor.
    pub(super) fn containerd(&self) -> PathBuf {
        self.home.join("c.sock")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.home.join("s.sock")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    pub(super) fn config(&self) -> PathBuf {
        self.home.join("config.toml")
    }

    pub(super) fn nri(&self) -> PathBuf {
        self.home.join("nri")
    }

    pub(super) fn plugins(&self) -> PathBuf {
        self.home.join("plugins")
    }

    fn dirs(&self) -> [&Path; 2] {
        [&self.home, &self.root]
    }

    pub(super) fn baseline(&self) -> Baseline {
        Baseline {
            mounts: leaks::mounts(&self.dirs()).unwrap_or_default().into_iter().collect(),
            files: leaks::files(&self.state()),
            namespaces: leaks::names(Path::new(NAMESPACES)),
            cgroups: leaks::cgroups(&self.mark).unwrap_or_default().into_iter().collect(),
        }
    }

    /// New since the baseline. With `shared_netns` every new name in
    /// `/run/netns` counts, though another daemon may have made it.
    pub(super) fn leaks(&self, before: &Baseline, daemon: Option<i32>, shared_netns: bool) -> Result<Vec<String>> {
        let mut leaks = Vec::new();
        if shared_netns {
            let names = leaks::names(Path::new(NAMESPACES));
            leaks.extend(names.difference(&before.namespaces).map(|name| format!("network namespace {name}")));
        }
        for process in leaks::processes(&self.mark)? {
            if Some(process.pid) != daemon {
                leaks.push(format!("process {} {}", process.pid, process.command));
            }
        }
        for point in leaks::mounts(&self.dirs())? {
            if !before.mounts.contains(&point) {
                leaks.push(format!("mount {}", point.display()));
            }
        }
        leaks.extend(leaks::files(&self.state()).difference(&before.files).map(|f| format!("state {}", f.display())));
        for group in leaks::cgroups(&self.mark)? {
            // The parents that the tests' pods name are the kubelet's to remove, not the runtime's.
            let slice = host::systemd_driver() && group.extension().is_some_and(|kind| kind == "slice");
            let parent =
                slice || group.parent().is_some_and(|dir| dir.ends_with(&self.mark)) || group.ends_with(&self.mark);
            if !parent && !before.cgroups.contains(&group) {
                leaks.push(format!("cgroup {}", group.display()));
            }
        }
        Ok(leaks)
    }

    fn remove(&self) -> Result<()> {
        reap::processes(&self.mark, &[])?;
        reap::mounts(&self.dirs())?;
        reap::cgroups(&self.mark)?;
        for dir in self.dirs() {
            if dir.exists() {
                std::fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("{}: not all was removed: {error:#}", self.mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_use_is_left_alone() {
        let place = Place::new().expect("a place");
        let (mark, home) = (place.mark.clone(), place.home.clone());
        assert!(Place::lock(mark.clone(), home.clone()).expect("a lock file").is_none());
        assert!(home.join("lock").exists(), "{} was removed", home.display());
        drop(place);
        assert!(!home.exists(), "{} is left", home.display());
    }
}
