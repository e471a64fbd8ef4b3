//! `cricket doctor --repair`: takes away what is left over, where cricket's own records or marks say that it is cricket's.
//!
//! The daemon does it, or the command itself under the daemon's lock. What is left over is found as `cricket doctor`
//! finds it, so nothing of a pod that comes or goes meanwhile is touched.
//!
//! | leftover | proof | what is done |
//! |---|---|---|
//! | process | a monitor's name, its messages go to a pod's folder | it and its children are killed |
//! | network attachment | a record of cricket's | CNI DEL with it, its namespace is unpinned |
//! | mount, namespace, folder | below the state directory | unmounted, removed |
//! | namespace in `/run/netns` | an attachment names it | with the attachment; others stay |
//! | control group | cricket's mark; without, that no other runtime is here; no other cricket | removed, if nobody is in it |
//! | layers, staging | no record has them | where no daemon runs: opening the store collects them |

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cricket_cgroup::{Cgroup, CgroupPath, Hierarchies};
use cricket_cni::Cni;
use cricket_model::SandboxId;
use cricket_process::Pidfd;
use cricket_process::mounts::{is_mount_point, unmount_all};
use cricket_store::Store;
use serde::{Deserialize, Serialize};

use super::leftovers::{Others, Suspect, What};
use super::{cgroups, search};
use crate::config::Config;

/// Most rounds: what one takes away may be what kept the next from being one.
const ROUNDS: usize = 4;
/// Most rounds of killing a monitor's children, which may have had children themselves.
const KILLS: usize = 50;
/// How long a killed process may take to end.
const DEATH: Duration = Duration::from_secs(5);

/// What became of something that was left over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repair {
    /// What it was.
    pub(crate) what: String,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is gone; how.
    Gone(String),
    /// It is there; why.
    Failed(String),
    /// It may be somebody else's; what to do.
    LeftAlone(String),
}

/// Takes away what is left over. `store`: the records, where no daemon has them.
///
/// # Errors
/// When what is there, or what is recorded, cannot be read; nothing is done then.
pub(crate) async fn repair(config: &Config, store: Option<&Store>, cni: &Cni) -> io::Result<Vec<Repair>> {
    let mut done = Vec::new();
    let mut tried = BTreeSet::new();
    for _ in 0..ROUNDS {
        let (config, store) = (config.clone(), store.cloned());
        let found = tokio::task::spawn_blocking(move || search(&config, store.as_ref())).await??;
        if let Some(unreadable) = found.unreadable.first() {
            // Its owner may be among those that cannot be read.
            return Err(io::Error::other(format!("{unreadable}; nothing is taken away before that is settled")));
        }
        let mut left = found.left;
        left.retain(|suspect| tried.insert(suspect.words()));
        if left.is_empty() {
            break;
        }
        left.sort_by_key(order);
        for suspect in left {
            let what = suspect.words();
            let outcome = match take_away(suspect, found.others, cni).await {
                Ok(outcome) => outcome,
                Err(e) => Outcome::Failed(e.to_string()),
            };
            tracing::info!(what, ?outcome, "repair");
            done.push(Repair { what, outcome });
        }
    }
    Ok(done)
}

/// Processes first, folders last; of mounts the innermost first.
fn order(suspect: &Suspect) -> (u8, std::cmp::Reverse<PathBuf>) {
    let rank = match suspect.what {
        What::Monitor => 0,
        What::Attachment => 1,
        What::Mount => 2,
        What::Namespace { .. } => 3,
        What::Cgroup => 4,
        What::Folder => 5,
    };
    (rank, std::cmp::Reverse(suspect.path.clone()))
}

async fn take_away(suspect: Suspect, others: Others, cni: &Cni) -> io::Result<Outcome> {
    if suspect.what == What::Attachment {
        return detach(&suspect, cni).await;
    }
    tokio::task::spawn_blocking(move || remove(&suspect, others)).await?
}

/// Everything that is not the network plugins'.
pub(super) fn remove(suspect: &Suspect, others: Others) -> io::Result<Outcome> {
    // An earlier step may have taken it along.
    if !suspect.is_there() {
        return Ok(Outcome::Gone("went with another".to_owned()));
    }
    match suspect.what {
        What::Monitor => end(suspect),
        What::Mount => {
            unmount_all(&suspect.path).map_err(io::Error::other)?;
            Ok(Outcome::Gone("unmounted".to_owned()))
        }
        What::Namespace { shared: true } => Ok(Outcome::LeftAlone(
            "no record names it, and other runtimes name theirs alike (ip netns delete)".to_owned(),
        )),
        What::Namespace { shared: false } => {
            cricket_process::pin::unpin(&suspect.path).map_err(io::Error::other)?;
            Ok(Outcome::Gone("unpinned".to_owned()))
        }
        What::Cgroup if others.crickets => {
            Ok(Outcome::LeftAlone("another cricket runs here and has the same marks (rmdir)".to_owned()))
        }
        What::Cgroup if others.runtimes && !cgroups::marked(&suspect.path) => {
            Ok(Outcome::LeftAlone("it has no mark of cricket's, and another runtime is here (rmdir)".to_owned()))
        }
        What::Cgroup => remove_group(&suspect.owner),
        What::Folder => remove_folder(&suspect.path),
        What::Attachment => Ok(Outcome::Failed("not reached".to_owned())),
    }
}

/// DEL, and the namespace that the record names.
async fn detach(suspect: &Suspect, cni: &Cni) -> io::Result<Outcome> {
    let id: SandboxId = suspect.owner.parse().map_err(io::Error::other)?;
    let path = suspect.path.clone();
    let netns = tokio::task::spawn_blocking(move || recorded_namespace(&path)).await?;
    cni.del(&id, netns.as_deref()).await.map_err(io::Error::other)?;
    let Some(netns) = netns else { return Ok(Outcome::Gone("detached".to_owned())) };
    let shown = netns.display().to_string();
    tokio::task::spawn_blocking(move || cricket_process::pin::unpin(&netns)).await?.map_err(io::Error::other)?;
    Ok(Outcome::Gone(format!("detached, and its network namespace {shown} unpinned")))
}

/// The namespace that a record names, if it is pinned there still.
fn recorded_namespace(record: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Record {
        netns: PathBuf,
    }
    let record: Record = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    let pinned = record.netns.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("cni-"));
    (pinned && is_mount_point(&record.netns).unwrap_or(false)).then_some(record.netns)
}

/// Kills a monitor and what it is the parent of: orphans of its containers become its children.
fn end(suspect: &Suspect) -> io::Result<Outcome> {
    let name = suspect.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let pid: i32 = name.parse().map_err(io::Error::other)?;
    let pidfd = Pidfd::open(pid).map_err(io::Error::other)?;
    // The descriptor is of the process that was found only if that is there still.
    let command = fs::read(suspect.path.join("cmdline")).unwrap_or_default();
    if !command.starts_with(format!("cricket-monitor\0{}\0", suspect.owner).as_bytes()) {
        return Ok(Outcome::Gone("has ended".to_owned()));
    }
    let mut killed = BTreeSet::new();
    for _ in 0..KILLS {
        let children = children(pid);
        if children.is_empty() {
            break;
        }
        for child in children {
            // Between the list and this it can only have become a zombie: its parent has not reaped it.
            if let Ok(fd) = Pidfd::open(child)
                && fd.send_signal(9).is_ok()
            {
                killed.insert(child);
                let _ = fd.wait(Some(DEATH));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    pidfd.send_signal(9).map_err(io::Error::other)?;
    if !pidfd.wait(Some(DEATH)).map_err(io::Error::other)? {
        return Ok(Outcome::Failed(format!("killed, and not ended within {} s", DEATH.as_secs())));
    }
    Ok(Outcome::Gone(match killed.len() {
        0 => "killed".to_owned(),
        n => format!("killed, with {n} of its children"),
    }))
}

fn children(pid: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn remove_group(path: &str) -> io::Result<Outcome> {
    let hierarchies = Hierarchies::detect().map_err(io::Error::other)?;
    let path: CgroupPath = path.parse().map_err(io::Error::other)?;
    // Nobody in it is killed: one that is in use by now makes this fail.
    Cgroup::open(&hierarchies, &path).remove().map_err(io::Error::other)?;
    Ok(Outcome::Gone("removed".to_owned()))
}

fn remove_folder(path: &Path) -> io::Result<Outcome> {
    let table = fs::read("/proc/self/mountinfo")?;
    let below = |mount: &Path| mount.starts_with(path);
    let state = path.parent().and_then(Path::parent).unwrap_or(path);
    if let Some(mount) = super::leftovers::mounts_in(&table, state).iter().find(|m| below(&m.path)) {
        return Ok(Outcome::Failed(format!("{} is mounted in it", mount.path.display())));
    }
    fs::remove_dir_all(path)?;
    Ok(Outcome::Gone("removed".to_owned()))
}

/// Waits until what opening the store collects in the background is deleted; says what went.
pub(crate) async fn collected(root: &Path, before: usize) -> Option<Repair> {
    if before == 0 {
        return None;
    }
    let what = format!("images: {before} unfinished or unknown directories");
    for _ in 0..600 {
        if unfinished(root) == 0 {
            return Some(Repair { what, outcome: Outcome::Gone("collected".to_owned()) });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Some(Repair { what, outcome: Outcome::Failed("not all deleted after 30 s".to_owned()) })
}

/// Directories of pulls and removals that did not end.
pub(crate) fn unfinished(root: &Path) -> usize {
    let images = root.join("images");
    ["staging", "trash"].iter().map(|place| super::leftovers::names(&images.join(place)).len()).sum()
}

/// What [`collected`] is told: directories of layers without a record as well.
pub(crate) fn to_collect(root: &Path, store: &Store) -> usize {
    super::store::unknown_layers(root, store).map_or(0, |unknown| unknown.len()) + unfinished(root)
}
