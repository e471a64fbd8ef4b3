//! Paths of control groups, as kubelets and records have them.

use std::path::{Component, Path};

use cricket_cgroup::CgroupPath;

/// A path that is accepted stays below the hierarchy, and survives being written.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = text.parse::<CgroupPath>() else { return };
    assert_eq!(path.as_str().parse::<CgroupPath>().as_ref().map(CgroupPath::as_str).ok(), Some(path.as_str()));
    let root = Path::new("/sys/fs/cgroup");
    let place = path.under(root);
    let below = place.strip_prefix(root).expect("below the hierarchy");
    assert!(below.components().all(|c| matches!(c, Component::Normal(_))) && below != Path::new(""));
    assert!(path.as_str().len() <= 3000 && !path.as_str().contains('\0'));
    match path.child("kid") {
        Ok(child) => assert!(child.name() == "kid" && child.under(root).starts_with(&place)),
        Err(_) => assert!(path.as_str().len() + "/kid".len() > 3000),
    }
    assert!(["", ".", "..", "a/b", "\n"].iter().all(|name| path.child(name).is_err()));
}
