//! The few things a monitor does to cgroups, by their directories: kill, remove.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// Longest file that is read here; `cgroup.procs` of a fork bomb is read in pieces over several rounds.
const MAX_FILE: u64 = 1 << 20;
/// Directories below a container's cgroup that are looked at (execs' leaves, a container that makes cgroups).
const MAX_DIRECTORIES: usize = 4096;

/// Sends `SIGKILL` to everything in the cgroup and below; how many processes were there. One round: what forks
/// meanwhile is met by the next. A directory that is gone is empty.
pub(crate) fn kill(directory: &Path) -> usize {
    let whole = directory.join("cgroup.kill");
    if whole.exists() {
        // v2: the kernel does it at once for the whole tree (kernel ≥ 5.14).
        let _ = fs::write(&whole, "1");
        return usize::from(populated(directory));
    }
    let mut killed = 0;
    for directory in tree(directory) {
        let procs = read(&directory.join("cgroup.procs"));
        let mut pids = procs.lines().filter_map(|line| line.trim().parse().ok().and_then(Pid::from_raw)).peekable();
        if pids.peek().is_some() {
            // No process can be added any more, so that the next round finds fewer.
            let _ = fs::write(directory.join("pids.max"), "0");
        }
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
            killed += 1;
        }
    }
    killed
}

fn populated(directory: &Path) -> bool {
    read(&directory.join("cgroup.events")).lines().any(|line| line == "populated 1")
}

/// The directory and all below it.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while next < found.len() && found.len() < MAX_DIRECTORIES {
        let entries = fs::read_dir(&found[next]).into_iter().flatten().flatten();
        found.extend(entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        next += 1;
    }
    found
}

/// Removes an empty cgroup; true: it is gone.
pub(crate) fn remove(directory: &Path) -> bool {
    match fs::remove_dir(directory) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(MAX_FILE).read_to_string(&mut text);
    }
    text
}
