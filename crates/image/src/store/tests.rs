//! Mounts: the way old kernels want them, which this one would not need, and with mapped IDs.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::path::PathBuf;

use super::overlay::{Overlay, Upper, Way, mount_at, unmount_all};

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
        mount_at(
            &Overlay { lowers: &lowers, upper: Some(Upper { upper: &upper, work: &work }), label: None },
            &target,
            way,
        )
        .unwrap();
        let count = std::fs::read_dir(&target).unwrap().count();
        let order = std::fs::read_to_string(target.join("order"));
        unmount_all(&target).unwrap();
        unmount_all(&target).unwrap();
        assert_eq!((count, order.unwrap().as_str()), (201, "0"), "{way:?}");
    }
}

#[test]
fn layers_are_mapped_either_way() {
    use super::mapped::{self, Layers};
    use std::os::unix::fs::{MetadataExt, chown};

    let dir = tempfile::tempdir().unwrap();
    let lowers: Vec<PathBuf> = (0..3).map(|i| dir.path().join(format!("lower{i}"))).collect();
    for (i, lower) in lowers.iter().enumerate() {
        std::fs::create_dir(lower).unwrap();
        std::fs::write(lower.join(format!("f{i}")), "").unwrap();
        chown(lower.join(format!("f{i}")), Some(1), Some(2)).unwrap();
    }
    std::fs::write(lowers[2].join("unmapped"), "").unwrap();
    chown(lowers[2].join("unmapped"), Some(5000), Some(0)).unwrap();
    let range = cricket_model::IdRange { inside: 0, outside: 100_000, length: 1000 };
    let maps = cricket_model::IdMaps { users: range, groups: range };
    for layers in [Layers::Detached, Layers::Private] {
        let [upper, work, target] = ["upper", "work", "target"].map(|n| dir.path().join(format!("{n}-{layers:?}")));
        for made in [&upper, &work, &target] {
            std::fs::create_dir(made).unwrap();
        }
        mapped::mount_at(
            &Overlay { lowers: &lowers, upper: Some(Upper { upper: &upper, work: &work }), label: None },
            &target,
            maps,
            layers,
        )
        .unwrap();
        let owner = |name: &str| target.join(name).metadata().map(|m| (m.uid(), m.gid())).unwrap();
        let (first, last, unmapped) = (owner("f0"), owner("f2"), owner("unmapped").0);
        // Copied up, it keeps its owner, and the layer is as it was.
        std::fs::write(target.join("f1"), "written").unwrap();
        let copied = upper.join("f1").metadata().map(|m| (m.uid(), m.gid())).unwrap();
        let layer = lowers[1].join("f1").metadata().map(|m| (m.uid(), m.len())).unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = mounts.lines().filter(|l| l.contains(&*dir.path().to_string_lossy())).count();
        unmount_all(&target).unwrap();
        assert_eq!((first, last, copied), ((100_001, 100_002), (100_001, 100_002), (100_001, 100_002)), "{layers:?}");
        assert_eq!((layer, below), ((1, 0), 1), "{layers:?}");
        // As the kernel shows what has no ID.
        assert_eq!(unmapped, 65_534, "{layers:?}");
    }
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    mapped::probe(&scratch, &lowers[0]).unwrap();
    assert!(mapped::probe(&scratch, &lowers[0]).is_err(), "a scratch directory is used once");
}
