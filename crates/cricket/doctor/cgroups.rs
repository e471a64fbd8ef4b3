//! Control groups that cricket made and no pod has.

use std::fs;
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

fn marked(dir: &Path) -> bool {
    let mut value = [0u8; 8];
    matches!(rustix::fs::getxattr(dir, MADE, &mut value), Ok(1..))
}

/// Those that cricket made and no pod has: marked ones with no pod below, and containers' own beside recorded ones or
/// in marked ones.
pub(super) fn suspects(groups: Vec<Group>, known: &Known) -> Vec<Suspect> {
    let mut parents: Vec<PathBuf> = known.cgroup_parents().into_iter().map(Path::to_owned).collect();
    parents.extend(groups.iter().filter(|g| g.marked).map(|g| g.path.clone()));
    let left = |group: &Group| {
        if known.has_cgroup_below(&group.path) {
            return false;
        }
        let name = group.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let container = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let ours = group.path.parent().is_some_and(|p| parents.iter().any(|known| known == p));
        group.marked || (container && ours && !known.has_container(name))
    };
    let all = groups.iter().filter(|g| left(g));
    all.map(|g| Suspect { what: What::Cgroup, path: g.dir.clone(), owner: String::new() }).collect()
}
