//! What layers and containers take on the disk, without walking the layers.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cricket_model::ContainerId;

use super::{FsKind, FsUsage, Inner};
use crate::{Error, Result};

/// How long a measurement is good.
const FRESH: Duration = Duration::from_secs(10);
/// Entries that are counted while the caller waits.
const AT_ONCE: u64 = 2_000;

/// The last measurement of a container's writable layer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cached {
    measured: Option<(Instant, SystemTime, u64, u64)>,
    running: bool,
}

impl Inner {
    pub(crate) fn fs_info(&self) -> Vec<FsUsage> {
        let state = self.state();
        let usage = |kind, name: &str, (used_bytes, inodes_used)| FsUsage {
            kind,
            mountpoint: self.dirs.base.join(name),
            used_bytes,
            inodes_used,
            measured_at: SystemTime::now(),
        };
        let layers = state.layers.values().fold((0, 0), |(b, i), l| (b + l.record.bytes, i + l.record.inodes));
        let measured = state.containers.values().filter_map(|c| c.usage.measured);
        let uppers = measured.fold((0, 0), |(b, i), (_, _, bytes, inodes)| (b + bytes, i + inodes));
        vec![usage(FsKind::Images, "layers", layers), usage(FsKind::Containers, "containers", uppers)]
    }

    pub(crate) fn rootfs_usage(self: &Arc<Self>, container: &ContainerId) -> Result<FsUsage> {
        let gone = || Error::NoRootfs { container: container.clone() };
        let cached = self.state().containers.get(container).ok_or_else(gone)?.usage.clone();
        let fresh = cached.measured.is_some_and(|(at, ..)| at.elapsed() < FRESH);
        if !fresh && !cached.running {
            let path = self.upper_of(container);
            let mut budget = AT_ONCE;
            let (bytes, inodes) = measure(&path, &mut budget);
            if budget > 0 {
                self.measured(container, bytes, inodes);
            } else {
                self.measure_later(container, &path);
                if cached.measured.is_none() {
                    // Better a lower bound than nothing.
                    self.measured(container, bytes, inodes);
                }
            }
        }
        let (_, at, used_bytes, inodes_used) = self
            .state()
            .containers
            .get(container)
            .and_then(|c| c.usage.measured)
            .unwrap_or((Instant::now(), SystemTime::now(), 0, 0));
        let mountpoint = self.dirs.base.join("containers");
        Ok(FsUsage { kind: FsKind::Containers, mountpoint, used_bytes, inodes_used, measured_at: at })
    }

    fn measured(&self, container: &ContainerId, bytes: u64, inodes: u64) {
        if let Some(found) = self.state().containers.get_mut(container) {
            found.usage.measured = Some((Instant::now(), SystemTime::now(), bytes, inodes));
        }
    }

    fn measure_later(self: &Arc<Self>, container: &ContainerId, path: &Path) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if let Some(found) = self.state().containers.get_mut(container) {
            found.usage.running = true;
        }
        let (inner, container, path) = (self.clone(), container.clone(), path.to_owned());
        runtime.spawn_blocking(move || {
            let mut budget = u64::MAX;
            let (bytes, inodes) = measure(&path, &mut budget);
            inner.measured(&container, bytes, inodes);
            if let Some(found) = inner.state().containers.get_mut(&container) {
                found.usage.running = false;
            }
        });
    }
}

/// Blocks and inodes of the upper directories below `path`, as far as the budget of entries goes. What vanishes
/// meanwhile does not count.
fn measure(path: &Path, budget: &mut u64) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0u64, 0u64);
    let Ok(pairs) = std::fs::read_dir(path) else { return (0, 0) };
    let mut pending: Vec<_> = pairs.flatten().map(|e| e.path().join("upper")).filter(|p| p.is_dir()).collect();
    while let Some(dir) = pending.pop() {
        inodes += 1;
        bytes += dir.symlink_metadata().map_or(0, |m| m.blocks() * 512);
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return (bytes, inodes);
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                pending.push(entry.path());
            } else {
                inodes += 1;
                // A file with several names counts once, spread over them.
                bytes += meta.blocks() * 512 / meta.nlink().max(1);
            }
        }
    }
    (bytes, inodes)
}
