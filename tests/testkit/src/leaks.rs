//! What a daemon and its pods have on the host: processes, mounts, control
//! groups. Everything is found by a mark, the unique part of the names that
//! one daemon was given: it is in its directories, its processes' command
//! lines and the cgroup parents of its pods.

use anyhow::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CGROUPS: &str = "/sys/fs/cgroup";

/// A process with the mark, or below one that has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Process ID.
    pub pid: i32,
    /// Its command line, or its name in brackets.
    pub command: String,
}

/// What each descriptor of a process refers to, as proc_pid_fd(5) has it. One that is closed meanwhile is left out.
pub fn descriptors(pid: i32) -> Result<Vec<PathBuf>> {
    let entries: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))?.collect::<Result<_, _>>()?;
    Ok(entries.iter().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect())
}

/// A process as it was seen in `/proc`.
struct Seen {
    process: Process,
    parent: i32,
    zombie: bool,
    marked: bool,
}

/// Processes whose command line, cgroup or standard error contains the mark, and their
/// descendants. The caller itself is never among them, nor a zombie whose
/// parent is not: that is for the machine's init to collect.
pub fn processes(mark: &str) -> Result<Vec<Process>> {
    let all = table(mark)?;
    let mut mine: BTreeSet<i32> = all.iter().filter(|seen| seen.marked).map(|seen| seen.process.pid).collect();
    loop {
        let children = all.iter().filter(|seen| mine.contains(&seen.parent)).map(|seen| seen.process.pid);
        let children: Vec<_> = children.filter(|pid| !mine.contains(pid)).collect();
        if children.is_empty() {
            break;
        }
        mine.extend(children);
    }
    let alive = |seen: &Seen| !seen.zombie || mine.contains(&seen.parent);
    let found = all.into_iter().filter(|seen| mine.contains(&seen.process.pid) && alive(seen));
    Ok(found.map(|seen| seen.process).collect())
}

/// Every process but this one.
fn table(mark: &str) -> Result<Vec<Seen>> {
    let me = i32::try_from(std::process::id())?;
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process may go away while it is looked at.
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let Some(state) = field("State:") else { continue };
        if pid == me || state.starts_with('X') {
            continue;
        }
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // A monitor's messages go to a file of its pod; nothing else of it has the mark once its daemon is gone.
        let messages = std::fs::read_link(format!("/proc/{pid}/fd/2")).unwrap_or_default();
        let mut command = String::from_utf8_lossy(&arguments).replace('\0', " ").trim_end().to_owned();
        let marked = [&command, &cgroup, &*messages.to_string_lossy()].iter().any(|text| text.contains(mark));
        if command.is_empty() {
            command = format!("[{}]", field("Name:").unwrap_or_default());
        }
        all.push(Seen {
            process: Process { pid, command },
            parent: field("PPid:").and_then(|text| text.parse().ok()).unwrap_or(0),
            zombie: state.starts_with('Z'),
            marked,
        });
    }
    Ok(all)
}

/// Mount points below any of the directories, in the order they were mounted.
pub fn mounts(dirs: &[&Path]) -> Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).map(PathBuf::from);
    Ok(points.filter(|point| dirs.iter().any(|dir| point.starts_with(dir))).collect())
}

/// Control groups with the mark in their path, in every hierarchy, parents first.
pub fn cgroups(mark: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut queue = vec![PathBuf::from(CGROUPS)];
    while let Some(dir) = queue.pop() {
        if dir.as_os_str().as_encoded_bytes().windows(mark.len()).any(|part| part == mark.as_bytes()) {
            found.push(dir.clone());
        }
        // A group may be removed while it is looked at.
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            // Controllers that are mounted together have links to one directory.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                queue.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Names in a directory; none when it is not there.
pub fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Paths of everything below a directory, relative to it; mounts are not entered.
pub fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let points: BTreeSet<_> = mounts(&[dir]).unwrap_or_default().into_iter().collect();
    let mut queue = vec![dir.to_owned()];
    while let Some(next) = queue.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !points.contains(&path) {
                queue.push(path.clone());
            }
            if let Ok(path) = path.strip_prefix(dir) {
                found.insert(path.to_owned());
            }
        }
    }
    found
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_mountinfo() {
        assert_eq!(unescape(r"/a\040b\134c\x"), r"/a b\c\x");
    }

    #[test]
    fn a_child_of_a_marked_process_is_found() {
        let mark = format!("mark-{}", crate::host::unique());
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & wait", &mark]).spawn().expect("sh");
        let found = crate::host::wait_for("sleep", std::time::Duration::from_secs(10), || {
            let found = processes(&mark)?;
            Ok((found.len() == 2 && found.iter().any(|p| p.command == "sleep 60")).then_some(found))
        });
        crate::reap::processes(&mark, &[]).expect("no more of them");
        child.wait().expect("sh ends");
        assert!(found.expect("both").iter().any(|process| process.pid as u32 == child.id()));
        assert!(processes(&mark).expect("proc").is_empty());
    }
}
