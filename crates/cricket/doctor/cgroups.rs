//! Control groups that cricket made and no pod has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cricket_cgroup::Hierarchies;

use super::known::Known;
use super::leftovers::{Suspect, What};

/// What cricket marks the directories with that it makes above containers' own.
const MADE: &str = "trusted.cricket.made";
/// Most directories looked at in one hierarchy.
const MOST: usize = 200_000;

/// One directory of a hierarchy.
#[derive(Debug)]
pub(super) struct Group {
    /// Where it is.
    pub(super) dir: PathBuf,
    /// Its path in the hierarchy.
    pub(super) path: PathBuf,
    /// Whether cricket made it for others to be in.
    pub(super) marked: bool,
}

/// Every control group of the host.
pub(super) fn all() -> Vec<Group> {
    let Ok(hierarchies) = Hierarchies::detect() else { return Vec::new() };
    hierarchies.all().iter().flat_map(|h| below(&h.mount)).collect()
}

fn below(mount: &Path) -> Vec<Group> {
    let mut found = Vec::new();
    let mut todo = vec![mount.to_owned()];
    while let Some(dir) = todo.pop() {
        // Groups come and go while they are looked at.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            let dir = entry.path();
            let path = Path::new("/").join(dir.strip_prefix(mount).unwrap_or(&dir));
            found.push(Group { marked: marked(&dir), path, dir: dir.clone() });
            todo.push(dir);
        }
        if found.len() >= MOST {
            break;
        }
    }
    found
}

/// Whether cricket made it for others to be in.
pub(super) fn marked(dir: &Path) -> bool {
    let mut value = [0u8; 8];
    matches!(rustix::fs::getxattr(dir, MADE, &mut value), Ok(1..))
}

/// Those that cricket made, that no pod has and that nobody is in: marked ones with no pod below, and containers' own
/// beside recorded ones. One for each path, and nothing below another.
pub(super) fn suspects(groups: Vec<Group>, known: &Known) -> Vec<Suspect> {
    let parents: BTreeSet<PathBuf> = known.cgroup_parents().into_iter().map(Path::to_owned).collect();
    let left = |group: &&Group| {
        let name = group.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let container = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let beside = group.path.parent().is_some_and(|parent| parents.contains(parent));
        let ours = group.marked || (container && beside && !known.has_container(name));
        ours && !known.has_cgroup_below(&group.path) && !populated(&group.dir)
    };
    let mut found: BTreeMap<&Path, &Path> = BTreeMap::new();
    for group in groups.iter().filter(left) {
        found.entry(&group.path).or_insert(&group.dir);
    }
    let topmost = found.iter().filter(|(path, _)| !path.ancestors().skip(1).any(|above| found.contains_key(above)));
    let suspect = |(path, dir): (&&Path, &&Path)| Suspect {
        what: What::Cgroup,
        path: dir.to_path_buf(),
        owner: path.display().to_string(),
    };
    topmost.map(suspect).collect()
}

/// Whether a process is in the group or below it.
fn populated(dir: &Path) -> bool {
    // A threaded group (v2) does not let its processes be read: somebody is using it.
    let here = match fs::read(dir.join("cgroup.procs")) {
        Ok(list) => !list.is_empty(),
        Err(e) => e.kind() != ErrorKind::NotFound,
    };
    let below = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).any(|e| populated(&e.path()))
    };
    here || below(dir)
}
