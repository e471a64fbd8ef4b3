//! How many processes of a container the kernel has killed for want of memory.
//!
//! The count is the kernel's, of the container's own cgroup: v2 `memory.events`, with the cgroups below, or v1
//! `memory.oom_control` (kernel ≥ 4.13). A scope of systemd's goes with its last process, and its files with it: whoever
//! looks after the exit may be late. On v2 every change is an event (cgroup-v2.rst, "memory.events"), so the count is read
//! as it changes and the largest is kept. The event only wakes: the same file tells of reclaim, at most 100 times a second.
//!
//! The kernel holds an event back that follows another within 10 ms, as a kill follows the reclaim that failed: systemd may
//! be faster than both event and exit. Then the pod's count remains, which has in it what was counted in cgroups that are gone:
//! what none of its containers has told of was the one's that vanished unread. Only in a slice that is the pod's alone.
//! Of several that vanished at once it is those' that were killed, before others' that failed.
//!
//! Invariants:
//! - it is opened, and watched, before the first process of the container can run;
//! - a file that cannot be read any more is not watched any more, for it would be ready for ever;
//! - a pod's count is read after its containers' when one begins and before them when it ends, so that a kill between two
//!   readings is never taken for one that nobody told of.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cricket_process::ExitStatus;
use cricket_wire::Run;
use rustix::event::epoll::EventFlags;

use crate::containers::State;
use crate::supervisor::{Source, Supervisor};

/// Both files are a few short lines.
const MAX_FILE: usize = 4096;
/// Status of a process that was killed, as a shell counts it.
const KILLED: i32 = 128 + 9;
/// v2's file, which has events.
const EVENTS: &str = "memory.events";
/// v1's, which has none: its notifications are of an ancestor's limit as well.
const CONTROL: &str = "memory.oom_control";

/// The largest count that was seen of one container.
#[derive(Default)]
pub(crate) struct KillCount {
    /// `None`: nobody counts.
    directory: Option<PathBuf>,
    file: Option<File>,
    /// Its place in the epoll set.
    token: Option<u64>,
    most: u64,
    /// The count of the pod's own slice, and how much of it no container had told of when this one began.
    pod: Option<(File, u64)>,
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
        let open = |name| File::open(directory.join(name)).ok();
        self.file = open(EVENTS);
        let events = self.file.is_some();
        if !events {
            self.file = open(CONTROL);
        }
        events
    }

    /// Reads the count, if the cgroup is there; false: it is not. What is new is added to `told`.
    pub(crate) fn look(&mut self, told: &mut u64) -> bool {
        if self.file.is_none() {
            self.open();
        }
        // ENODEV: the cgroup was removed.
        let Some(count) = self.file.as_ref().and_then(read) else { return false };
        *told += count.saturating_sub(self.most);
        self.most = self.most.max(count);
        true
    }

    /// It was counted in a cgroup that is gone, and only the pod's count may know of it.
    fn is_gone_unread(&self) -> bool {
        self.pod.is_some() && !self.any() && self.file.as_ref().and_then(read).is_none()
    }

    /// Some process was killed.
    pub(crate) fn any(&self) -> bool {
        self.most > 0
    }
}

/// Whether a process was killed, or a shell says so of its child.
fn killed(status: Option<ExitStatus>) -> bool {
    status.is_some_and(|status| status.shell_code() == KILLED)
}

/// What of `new` kills that nobody has told of a container tells of, when `others` that were killed are to come: one is
/// left for each of them, and one that was killed itself has the first.
fn share(new: u64, killed: bool, others: u64) -> u64 {
    new.saturating_sub(others).max(new.min(killed.into()))
}

/// The count in an open file, if its cgroup is there.
fn read(file: &File) -> Option<u64> {
    let mut buffer = [0; MAX_FILE];
    let length = file.read_at(&mut buffer, 0).ok()?;
    Some(count_in(&buffer[..length]).unwrap_or(0))
}

/// The slice that a container's scope is in, if it is one pod's alone: as kubelets name it, after the pod's UID.
fn pods_own(directory: &Path) -> Option<&Path> {
    let slice = directory.parent()?;
    let (_, uid) = slice.file_name()?.to_str()?.strip_suffix(".slice")?.rsplit_once("-pod")?;
    // A UUID, its dashes escaped; or, of a pod from a file, a hash.
    let valid = (32..=36).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_');
    valid.then_some(slice)
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
        // Events are what comes after a reading of this open file; what is in it already is nothing new.
        kills.look(&mut 0);
        let Some(file) = kills.file.take_if(|_| events) else { return };
        let pod = kills.directory.as_deref().and_then(pods_own).and_then(|slice| File::open(slice.join(EVENTS)).ok());
        // Without the events it is read at the exit all the same, as everywhere where the cgroup stays.
        let token = self.watch_for(&file, Source::Memory(key), EventFlags::PRI).ok();
        self.look_at_all();
        let pod = pod.and_then(|pod| read(&pod).map(|all| (pod, all.saturating_sub(self.kills_told))));
        if let Some(container) = self.containers.get_mut(&key) {
            container.kills.file = Some(file);
            container.kills.token = token;
            container.kills.pod = pod;
        }
    }

    /// Reads every count that can be read.
    fn look_at_all(&mut self) {
        for container in self.containers.values_mut().filter(|container| !matches!(container.state, State::Exited(_))) {
            container.kills.look(&mut self.kills_told);
        }
    }

    /// The last look at a container's count, which has ended with this status.
    pub(crate) fn settle_count(&mut self, key: u64, status: Option<ExitStatus>) {
        let failed = status != Some(ExitStatus::Code(0));
        let Some(kills) = self.containers.get_mut(&key).map(|container| &mut container.kills) else { return };
        if kills.look(&mut self.kills_told) || kills.any() || !failed {
            return;
        }
        let Some((pod, before)) = kills.pod.take() else { return };
        let Some(all) = read(&pod) else { return };
        self.look_at_all();
        let new = all.saturating_sub(self.kills_told).saturating_sub(before);
        let new = share(new, killed(status), self.killed_unread(key));
        if let Some(container) = self.containers.get_mut(&key) {
            container.kills.most += new;
            self.kills_told += new;
        }
    }

    /// How many other containers were killed, and may have been for want of memory: their cgroups are gone unread.
    fn killed_unread(&self, key: u64) -> u64 {
        let others = self.containers.iter().filter(|(other, _)| **other != key).map(|(_, container)| container);
        let unread = others.filter(|container| container.kills.is_gone_unread());
        unread.filter(|container| killed(container.ended_with())).count() as u64
    }

    /// The kernel tells of something about a container's memory.
    pub(crate) fn memory_changed(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        if !container.kills.look(&mut self.kills_told) {
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
        let mut told = 0;
        assert!(!count.look(&mut told) && !count.any());
        let steps = [("oom 1\noom_kill 0\n", 0), ("oom 1\noom_kill 2\n", 2), ("oom_kill 0\n", 2), ("oom_kill 3\n", 3)];
        for (text, expected) in steps {
            std::fs::write(&file, text).expect("write");
            assert!(count.look(&mut told));
            assert_eq!((count.any(), told), (expected > 0, expected), "{text}");
        }
        assert!(!KillCount::default().look(&mut told));
    }

    #[test]
    fn a_kill_is_told_of_by_one_that_was_killed_rather_than_by_one_that_failed() {
        assert!(killed(Some(ExitStatus::Signal(9))) && killed(Some(ExitStatus::Code(137))));
        assert!(!killed(Some(ExitStatus::Signal(15))) && !killed(Some(ExitStatus::Code(1))) && !killed(None));
        // One kill, and one of two was killed: in either order it is that one's.
        assert_eq!((share(1, false, 1), share(1, true, 0)), (0, 1));
        // Both were killed: each has its own, and where there is but one the first has it.
        assert_eq!((share(2, true, 1), share(1, true, 0), share(1, true, 1)), (1, 1, 1));
        // Nobody else was: a child was killed, and its parent failed.
        assert_eq!((share(1, false, 0), share(3, false, 2), share(3, true, 1)), (1, 1, 2));
        assert_eq!((share(0, true, 0), share(0, true, 2), share(0, false, 2)), (0, 0, 0));
    }

    #[test]
    fn a_slice_is_a_pods_own_by_its_name() {
        let own = |parent: &str| pods_own(&Path::new("/s").join(parent).join("cricket-a.scope")).is_some();
        assert!(own("kubepods-burstable-pod0fb5a5a1_7a8c_4c59_a2a4_1d2c3b4a5f60.slice"));
        assert!(own("kubepods-pod0123456789abcdef0123456789abcdef.slice"));
        for other in ["cricket.slice", "kubepods-burstable.slice", "a-podinfo.slice", "pod0fb5", "a-pod.slice"] {
            assert!(!own(other), "{other}");
        }
    }
}
