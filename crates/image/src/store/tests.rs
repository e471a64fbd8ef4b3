//! Mounting the way old kernels want it, which this one would not need.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::path::PathBuf;

use super::overlay::{Overlay, Way, mount_at, unmount_all};

#[test]
fn classic_mounts_of_200_layers_fit_in_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: String| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let lowers: Vec<PathBuf> = (0..200).map(|i| make(format!("{i}-{}", "long-name".repeat(20)))).collect();
    for (i, lower) in lowers.iter().enumerate() {
        std::fs::write(lower.join(format!("f{i}")), "").unwrap();
        std::fs::write(lower.join("order"), i.to_string()).unwrap();
    }
    for way in [Way::Classic, Way::Best] {
        let name = |what| format!("{what}-{way:?}");
        let (upper, work, target) = (make(name("upper")), make(name("work")), make(name("target:,\\")));
        mount_at(&Overlay { lowers: &lowers, upper: &upper, work: &work }, &target, way).unwrap();
        let count = std::fs::read_dir(&target).unwrap().count();
        let order = std::fs::read_to_string(target.join("order"));
        unmount_all(&target).unwrap();
        unmount_all(&target).unwrap();
        assert_eq!((count, order.unwrap().as_str()), (201, "0"), "{way:?}");
    }
}
