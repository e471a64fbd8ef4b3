//! Mounts, network namespaces, network attachments, monitors and folders that may belong to no pod.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::Finding;
use super::known::Known;
use crate::layout;

/// Something that a pod made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) what: What,
    pub(super) path: PathBuf,
    /// ID of the pod or container that it has to belong to; a control group's path.
    pub(super) owner: String,
}

/// Kinds of suspects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A mount below the state directory.
    Mount,
    /// A pinned network namespace; `shared`: in a directory that other runtimes use as well.
    Namespace {
        /// See above.
        shared: bool,
    },
    /// A record of the network plugins.
    Attachment,
    /// A monitor; its path is its directory in `/proc`.
    Monitor,
    /// A pod's folder.
    Folder,
    /// A control group.
    Cgroup,
}

impl Suspect {
    /// Whether somebody owns it.
    pub(super) fn belongs(&self, known: &Known) -> bool {
        match self.what {
            What::Namespace { .. } => known.has_netns(&self.path),
            What::Mount => known.has_container(&self.owner) || known.has_netns(&self.path),
            What::Attachment | What::Monitor | What::Folder => known.has_pod(&self.owner),
            // Chosen with the records at hand.
            What::Cgroup => false,
        }
    }

    /// Whether it is still there.
    pub(super) fn is_there(&self) -> bool {
        match self.what {
            What::Mount => cricket_process::mounts::is_mount_point(&self.path).unwrap_or(false),
            _ => self.path.symlink_metadata().is_ok(),
        }
    }

    /// What it is, and where.
    pub(super) fn words(&self) -> String {
        let path = self.path.display();
        match self.what {
            What::Mount => format!("mount {path}"),
            What::Namespace { .. } => format!("network namespace {path}"),
            What::Attachment => format!("network attachment {path}"),
            What::Monitor => format!("process {path}"),
            What::Folder => format!("folder {path}"),
            What::Cgroup => format!("control group {}", self.owner),
        }
    }

    /// For the operator. `others`: somebody else is here, see [`Others`].
    pub(super) fn finding(&self, others: bool) -> Finding {
        let why = match self.what {
            What::Mount => "belongs to no pod (umount -l takes it away)".to_owned(),
            What::Namespace { .. } => "belongs to no pod (ip netns delete)".to_owned(),
            What::Attachment => "the pod is gone; a restart of the daemon detaches it".to_owned(),
            What::Monitor => "a monitor without a pod".to_owned(),
            What::Folder => "belongs to no pod; a restart of the daemon removes it".to_owned(),
            What::Cgroup => format!("belongs to no pod and is empty, see {}", self.path.display()),
        };
        let text = format!("{}: {why}", self.words());
        match self.what {
            What::Namespace { shared: true } | What::Cgroup if others => {
                Finding::Note(format!("{text}; perhaps another runtime's"))
            }
            _ => Finding::Wrong(text),
        }
    }
}

/// Who else is here, whose network namespaces and control groups look like this cricket's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Others {
    /// containerd or CRI-O.
    pub(super) runtimes: bool,
    /// A cricket with another state directory, which marks control groups in the same way.
    pub(super) crickets: bool,
}

impl Others {
    /// Looks for them.
    pub(super) fn beside(state: &Path) -> Self {
        let sockets = ["/run/containerd/containerd.sock", "/run/crio/crio.sock"];
        let pods = layout::pods(state);
        let holder = fs::read_to_string(state.join(layout::LOCK)).unwrap_or_default();
        let daemon = |pid: &str| {
            let command = fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
            let mut words = command.split(|b| *b == 0);
            let name = words.next().and_then(|name| name.rsplit(|b| *b == b'/').next());
            name == Some(b"cricket") && words.next() == Some(b"serve") && pid != holder.trim()
        };
        Self {
            runtimes: sockets.iter().any(|p| Path::new(p).exists()),
            crickets: all_monitors().iter().any(|(_, log)| !log.starts_with(&pods)) || pids().iter().any(|p| daemon(p)),
        }
    }

    /// Somebody is.
    pub(super) fn any(self) -> bool {
        self.runtimes || self.crickets
    }
}

/// Mounts below the pods' folders and the state directory's namespaces.
pub(super) fn mounts(state: &Path) -> io::Result<Vec<Suspect>> {
    Ok(mounts_in(&fs::read("/proc/self/mountinfo")?, state))
}

/// The same, of a table in the format of proc_pid_mountinfo(5).
pub(super) fn mounts_in(table: &[u8], state: &Path) -> Vec<Suspect> {
    let pods = layout::pods(state);
    let netns = state.join("netns");
    let mut found = Vec::new();
    for line in table.split(|b| *b == b'\n') {
        let Some(point) = line.split(|b| *b == b' ').nth(4) else { continue };
        let path = PathBuf::from(std::ffi::OsString::from_vec(unescape(point)));
        let owner = match (path.strip_prefix(&pods), path.strip_prefix(&netns)) {
            (Ok(below), _) => {
                // POD/…, or POD/c/CONTAINER/…
                let parts: Vec<_> = below.iter().map(|p| p.to_string_lossy()).collect();
                match parts.as_slice() {
                    [_, c, container, ..] if c == "c" => container.to_string(),
                    [pod, ..] => pod.to_string(),
                    [] => continue,
                }
            }
            (_, Ok(below)) if below != Path::new("") => String::new(),
            _ => continue,
        };
        found.push(Suspect { what: What::Mount, path, owner });
    }
    found
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let byte = digits.filter(|_| *first == b'\\').and_then(|d| u8::from_str_radix(d, 8).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    out
}

/// Pinned network namespaces with the names that pods' have.
pub(super) fn namespaces(dir: &Path, state: &Path) -> Vec<Suspect> {
    let shared = !dir.starts_with(state);
    let names = names(dir).into_iter().filter(|n| n.starts_with("cni-"));
    names.map(|n| Suspect { what: What::Namespace { shared }, path: dir.join(n), owner: String::new() }).collect()
}

/// Records of the network plugins.
pub(super) fn attachments(root: &Path) -> Vec<Suspect> {
    let dir = layout::networks(root);
    let record = |name: String| {
        let owner = name.strip_suffix(".json")?.to_owned();
        Some(Suspect { what: What::Attachment, path: dir.join(&name), owner })
    };
    names(&dir).into_iter().filter_map(record).collect()
}

/// Monitors whose messages go to this state directory.
pub(super) fn monitors(state: &Path) -> Vec<Suspect> {
    let pods = layout::pods(state);
    let ours = all_monitors().into_iter().filter(|(_, log)| log.starts_with(&pods));
    ours.map(|(suspect, _)| suspect).collect()
}

/// Every monitor of the host, with the file that its messages go to.
fn all_monitors() -> Vec<(Suspect, PathBuf)> {
    let monitor = |pid: String| {
        let path = Path::new("/proc").join(pid);
        let command = fs::read(path.join("cmdline")).ok()?;
        let mut words = command.split(|b| *b == 0);
        let owner = words.next().filter(|w| *w == b"cricket-monitor").and(words.next())?;
        let owner = String::from_utf8_lossy(owner).into_owned();
        let log = fs::read_link(path.join("fd/2")).ok()?;
        Some((Suspect { what: What::Monitor, path, owner }, log))
    };
    pids().into_iter().filter_map(monitor).collect()
}

fn pids() -> Vec<String> {
    names(Path::new("/proc")).into_iter().filter(|n| n.bytes().all(|b| b.is_ascii_digit())).collect()
}

/// Pods' folders.
pub(super) fn folders(state: &Path) -> Vec<Suspect> {
    let dir = layout::pods(state);
    names(&dir).into_iter().map(|id| Suspect { what: What::Folder, path: dir.join(&id), owner: id }).collect()
}

/// Names in a directory; none where it is missing.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}
