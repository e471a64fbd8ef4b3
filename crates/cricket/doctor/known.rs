//! What the records say there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cricket_pod::PodRecord;
use cricket_store::Store;

use crate::config::Config;
use crate::layout;
use crate::serve::Lock;

/// Largest journal that is read, in bytes.
const MAX_JOURNAL: u64 = 64 << 20;

/// Pods and what belongs to them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Container IDs by pod ID.
    pods: BTreeMap<String, BTreeSet<String>>,
    /// Pinned network namespaces.
    netns: BTreeSet<PathBuf>,
    /// Control groups of containers, pods' inits and pods.
    cgroups: BTreeSet<PathBuf>,
    unreadable: Vec<String>,
}

impl Known {
    /// Reads the pods' journals, and the record store: `store` where the caller has it, else the file's where no daemon
    /// has that.
    ///
    /// # Errors
    /// When the directories cannot be read.
    pub(super) fn read(config: &Config, store: Option<&Store>) -> io::Result<Self> {
        let mut known = Self::default();
        if let Some(store) = store {
            known.stored(store.list::<PodRecord>());
        } else if let Ok(_lock) = Lock::take(&config.own.root.join(layout::LOCK)) {
            let path = layout::records(&config.own.root);
            if path.exists() {
                known.stored(Store::open(&path).and_then(|store| store.list::<PodRecord>()));
            }
        }
        // A running daemon has a journal for every pod.
        known.journals(&layout::pods(&config.own.state))?;
        Ok(known)
    }

    fn stored(&mut self, records: cricket_store::Result<Vec<(String, PodRecord)>>) {
        match records {
            Ok(records) => records.iter().for_each(|(_, record)| self.add(record)),
            Err(e) => self.unreadable.push(e.to_string()),
        }
    }

    fn journals(&mut self, dir: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries.flatten() {
            let Ok(id) = entry.file_name().into_string() else { continue };
            let path = entry.path().join("journal");
            match newest(&path) {
                Ok(Some(record)) => self.add(&record),
                // Nothing was recorded, so nothing was made: `folders` tells of it.
                Ok(None) => {}
                Err(_) if !path.exists() => {}
                Err(e) => {
                    self.unreadable.push(format!("pod {id}: {}: {e}", path.display()));
                    self.pods.entry(id).or_default();
                }
            }
        }
        Ok(())
    }

    /// Adds what a record says.
    pub(super) fn add(&mut self, record: &PodRecord) {
        let sandbox = &record.sandbox;
        let containers = self.pods.entry(sandbox.id.to_string()).or_default();
        containers.extend(record.containers.iter().map(|c| c.id.to_string()));
        self.netns.extend(sandbox.netns.clone());
        self.cgroups.extend(record.containers.iter().map(|c| PathBuf::from(&c.cgroup)));
        let parent = sandbox.config.0.linux.as_ref().map_or("", |l| l.cgroup_parent.as_str());
        let parent = if parent.is_empty() { "/cricket".to_owned() } else { format!("/{}", parent.trim_matches('/')) };
        self.cgroups.insert(Path::new(&parent).join(sandbox.id.as_str()));
    }

    /// How many pods there are.
    pub(super) fn pods(&self) -> usize {
        self.pods.len()
    }

    /// Whether the pod is recorded.
    pub(super) fn has_pod(&self, id: &str) -> bool {
        self.pods.contains_key(id)
    }

    /// Whether the container, or the pod's own init, is.
    pub(super) fn has_container(&self, id: &str) -> bool {
        self.has_pod(id) || self.pods.values().any(|c| c.contains(id))
    }

    /// Whether the pinned network namespace is a pod's.
    pub(super) fn has_netns(&self, path: &Path) -> bool {
        self.netns.contains(path)
    }

    /// Whether a control group is a pod's, or above one.
    pub(super) fn has_cgroup_below(&self, path: &Path) -> bool {
        self.cgroups.iter().any(|known| known.starts_with(path))
    }

    /// The directories in which pods have their control groups.
    pub(super) fn cgroup_parents(&self) -> BTreeSet<&Path> {
        self.cgroups.iter().filter_map(|path| path.parent()).collect()
    }

    /// Records that could not be read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(String::as_str)
    }
}

/// The last whole line of a journal, which its daemon may be writing at this moment.
fn newest(path: &Path) -> io::Result<Option<PodRecord>> {
    let size = fs::metadata(path)?.len();
    if size > MAX_JOURNAL {
        return Err(io::Error::other(format!("{size} bytes")));
    }
    let bytes = fs::read(path)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
    match bytes[..whole].rsplit(|b| *b == b'\n').find(|line| !line.is_empty()) {
        Some(line) => Ok(Some(serde_json::from_slice(line)?)),
        None => Ok(None),
    }
}
