//! Finding and killing everything in a cgroup, and waiting for it to be gone.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::group::open_dir;
use crate::hierarchy::Version;
use crate::remove::walk;
use crate::{Cgroup, Error, Result, files};

/// Rounds of "list and kill" on v1 before giving up on something that forks faster than it is killed.
const ROUNDS: usize = 50;

impl Cgroup {
    /// PIDs of the processes in the cgroup and below it, as this process's PID namespace numbers them; those of
    /// other namespaces have no number here and are left out. Empty for a cgroup that is gone.
    pub fn procs(&self) -> Result<Vec<i32>> {
        procs_below(&self.procs_dir())
    }

    /// Whether no process is left in the cgroup or below it; a cgroup that is gone is empty.
    pub fn is_empty(&self) -> Result<bool> {
        match self.hierarchies.version() {
            Version::V2 => match files::read(&self.procs_dir().join("cgroup.events")) {
                Ok(text) => Ok(files::keyed(&text, "populated") == Some(0)),
                Err(e) if e.is_gone() => Ok(true),
                Err(e) => Err(e),
            },
            Version::V1 => Ok(self.procs()?.is_empty()),
        }
    }

    /// Sends SIGKILL to everything in the cgroup and below it, however fast it forks. They die soon after:
    /// see [`Cgroup::wait_empty`]. A cgroup that is gone has nothing to kill.
    pub fn kill_all(&self) -> Result<()> {
        let dir = self.procs_dir();
        if self.hierarchies.version() == Version::V2 {
            return match files::write(&dir.join("cgroup.kill"), "1") {
                Err(e) if e.is_gone() => Ok(()),
                done => done,
            };
        }
        // What is frozen cannot fork, so that one round after a complete freeze reaches all of them.
        let frozen = self.freeze();
        let killed = if frozen.is_ok() { kill_once(&dir).map(|_| ()) } else { kill_loop(&dir) };
        match self.thaw() {
            Err(e) if !e.is_gone() => killed.and(Err(e)),
            _ => killed,
        }
    }

    /// Waits until the cgroup is empty, or until the time is over: `false`. v2 sleeps until the kernel's event;
    /// v1 has none and looks again at growing intervals of at most 20 ms.
    pub fn wait_empty(&self, limit: Duration) -> Result<bool> {
        let start = Instant::now();
        match self.hierarchies.version() {
            Version::V2 => self.wait_event(start, limit),
            Version::V1 => {
                let mut wait = Duration::from_micros(200);
                while !self.is_empty()? {
                    let left = limit.saturating_sub(start.elapsed());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    sleep(wait.min(left));
                    wait = (wait * 2).min(Duration::from_millis(20));
                }
                Ok(true)
            }
        }
    }

    fn wait_event(&self, start: Instant, limit: Duration) -> Result<bool> {
        let path = self.procs_dir().join("cgroup.events");
        let file = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            opened => opened.map_err(|e| Error::io("open", &path, e))?,
        };
        loop {
            if self.is_empty()? {
                return Ok(true);
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io("poll", &path, e)),
            }
        }
    }
}

/// Kills until nothing is left or nothing new appears: without freezing.
pub(crate) fn kill_loop(dir: &Path) -> Result<()> {
    let mut before: Vec<i32> = Vec::new();
    for _ in 0..ROUNDS {
        let now = kill_once(dir)?;
        // The killed stay listed until they are dead; a list without a newcomer is complete.
        if now.iter().all(|pid| before.contains(pid)) {
            return Ok(());
        }
        before = now;
        sleep(Duration::from_millis(1));
    }
    Err(Error::TimedOut { action: "kill everything in", path: dir.to_owned(), millis: ROUNDS as u64 })
}

/// Kills everything listed once; returns what was listed.
fn kill_once(dir: &Path) -> Result<Vec<i32>> {
    let pids = procs_below(dir)?;
    for pid in pids.iter().copied().filter_map(Pid::from_raw) {
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => return Err(Error::io("kill a process of", dir, e)),
        }
    }
    Ok(pids)
}

pub(crate) fn procs_below(dir: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let fd = match open_dir(dir) {
        Err(e) if e.is_gone() => return Ok(pids),
        opened => opened?,
    };
    let walked = walk(fd.as_fd(), &mut |dir| match read_procs(dir) {
        Ok(text) => {
            // 0 stands for a process of another PID namespace; killing 0 would kill the caller's group.
            pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
            Ok(())
        }
        // A threaded cgroup (v2) lists its processes at the root of its subtree.
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(e),
    });
    walked.map_err(|e| Error::io("list the processes of", dir, e))?;
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn read_procs(dir: BorrowedFd<'_>) -> rustix::io::Result<String> {
    let fd = openat(dir, c"cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    match File::from(fd).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) => Err(e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)),
    }
}
