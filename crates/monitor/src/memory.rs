//! How many processes of a container the kernel has killed for want of memory.
//!
//! The count is the kernel's, of the container's own cgroup: v2 `memory.events`, with the cgroups below, or v1
//! `memory.oom_control` (kernel ≥ 4.13). A scope of systemd's goes with its last process, and its files with it: whoever
//! looks after the exit may be late. On v2 every change is an event (cgroup-v2.rst, "memory.events"), so the count is read
//! as it changes and the largest is kept. The event only wakes: the same file tells of reclaim, at most 100 times a second.
//!
//! Invariants:
//! - it is opened, and watched, before the first process of the container can run;
//! - a file that cannot be read any more is not watched any more, for it would be ready for ever.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use cricket_wire::Run;
use rustix::event::epoll::EventFlags;

use crate::supervisor::{Source, Supervisor};

/// Both files are a few short lines.
const MAX_FILE: usize = 4096;
/// v2's file, which has events; v1's, which has none (its notifications are an ancestor's limit as well).
const FILES: [(&str, bool); 2] = [("memory.events", true), ("memory.oom_control", false)];

/// The largest count that was seen of one container.
#[derive(Default)]
pub(crate) struct KillCount {
    /// `None`: nobody counts.
    directory: Option<PathBuf>,
    file: Option<File>,
    /// Its place in the epoll set.
    token: Option<u64>,
    most: u64,
}

impl KillCount {
    /// Of a container that is to be made, or adopted.
    pub(crate) fn of(run: &Run) -> Self {
        let directory = run.cgroup.as_ref().map(|cgroup| cgroup.memory.as_str()).filter(|dir| !dir.is_empty());
        Self { directory: directory.map(PathBuf::from), ..Self::default() }
    }

    /// Opens the file that counts; true: it has events.
    fn open(&mut self) -> bool {
        let Some(directory) = &self.directory else { return false };
        let found = FILES.iter().find_map(|(name, events)| Some((File::open(directory.join(name)).ok()?, *events)));
        let Some((file, events)) = found else { return false };
        self.file = Some(file);
        events
    }

    /// Reads the count, if the cgroup is there; false: it is not.
    pub(crate) fn look(&mut self) -> bool {
        if self.file.is_none() {
            self.open();
        }
        let mut buffer = [0; MAX_FILE];
        let count = self.file.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok());
        // ENODEV: the cgroup was removed.
        let Some(length) = count else { return false };
        self.most = self.most.max(count_in(&buffer[..length]).unwrap_or(0));
        true
    }

    /// Some process was killed.
    pub(crate) fn any(&self) -> bool {
        self.most > 0
    }
}

/// The count in either file.
fn count_in(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

impl Supervisor {
    /// From now on a container's out-of-memory kills are counted, whatever becomes of its cgroup.
    pub(crate) fn count_kills(&mut self, key: u64) {
        let Some(kills) = self.containers.get_mut(&key).map(|container| &mut container.kills) else { return };
        let events = kills.open();
        // Events are what comes after a reading of this open file.
        kills.look();
        let Some(file) = kills.file.take().filter(|_| events) else { return };
        // Without the events it is read at the exit all the same, as everywhere where the cgroup stays.
        let token = self.watch_for(&file, Source::Memory(key), EventFlags::PRI).ok();
        if let Some(container) = self.containers.get_mut(&key) {
            container.kills.file = Some(file);
            container.kills.token = token;
        }
    }

    /// The kernel tells of something about a container's memory.
    pub(crate) fn memory_changed(&mut self, key: u64) {
        if self.containers.get_mut(&key).is_some_and(|container| !container.kills.look()) {
            self.end_count(key);
        }
    }

    /// The count is final.
    pub(crate) fn end_count(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let (file, token) = (container.kills.file.take(), container.kills.token.take());
        if let (Some(file), Some(token)) = (file, token) {
            self.unwatch(&file, token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_both_versions() {
        assert_eq!(count_in(b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count_in(b"low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(count_in(b""), None);
    }

    #[test]
    fn the_largest_count_stays() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("memory.events");
        let mut count = KillCount { directory: Some(dir.path().to_owned()), ..KillCount::default() };
        assert!(!count.look() && !count.any());
        for (text, any) in [("oom 1\noom_kill 0\n", false), ("oom 1\noom_kill 1\n", true), ("oom_kill 0\n", true)] {
            std::fs::write(&file, text).expect("write");
            assert!(count.look());
            assert_eq!(count.any(), any, "{text}");
        }
        assert!(!KillCount::default().look());
    }
}
