//! What the kernel shows in `/proc` and control groups. The kernel is trusted; names in it are not: of processes, of
//! interfaces, of mount points.

use std::path::Path;

use cricket_cgroup::{Hierarchies, fuzzing as cgroup};
use cricket_monitor::fuzzing::zombie_status;
use cricket_pod::fuzzing::{net_dev, propagation};
use cricket_process::fuzzing::start_time;

/// Numbers are those of the text, mounts are below the state directory, and a process's name decides nothing.
pub fn run(data: &[u8]) {
    let state = Path::new("/run/cricket");
    for (mount, owner) in cricket::fuzzing::mounts(data, state) {
        assert!(mount.starts_with(state) && mount != state, "{mount:?}");
        assert!(owner.is_empty() || mount.to_string_lossy().contains(&owner), "{owner:?} of {mount:?}");
    }
    process(data);
    let text = String::from_utf8_lossy(data);
    for interface in net_dev(&text) {
        assert!(interface.name != "lo" && !interface.name.contains([':', '\n']), "{:?}", interface.name);
        assert!(text.contains(&interface.name));
    }
    for key in ["usage_usec", "anon", "total_swap", "oom_kill"] {
        if let Some(number) = cgroup::keyed(&text, key) {
            assert!(text.lines().any(|l| l.starts_with(key)), "{key} {number}");
        }
    }
    if let Some(psi) = cgroup::psi(&text) {
        let line = |kind: &str, d: cricket_cgroup::PsiData| {
            format!("{kind} avg10={} avg60={} avg300={} total={}\n", d.avg10, d.avg60, d.avg300, d.total / 1000)
        };
        let again =
            cgroup::psi(&format!("{}{}", line("some", psi.some), line("full", psi.full))).expect("a pressure file");
        let nan = [psi.some, psi.full].iter().any(|d| d.avg10.is_nan() || d.avg60.is_nan() || d.avg300.is_nan());
        let saturated = psi.some.total == u64::MAX || psi.full.total == u64::MAX;
        assert!(nan || saturated || again == psi, "{psi:?} {again:?}");
    }
    if let Ok(hierarchies) = Hierarchies::from_mounts(&text) {
        assert!(!hierarchies.all().is_empty());
    }
    let root = "1 0 8:1 / / rw - ext4 a rw\n";
    if !text.contains(" /") {
        assert_eq!(propagation(&format!("{root}{text}"), Path::new("/mnt")), propagation(root, Path::new("/mnt")));
    }
    let _ = propagation(&text, Path::new("/mnt/a b"));
}

/// Takes the bytes as a process's name: it may hold spaces, parentheses and lines.
fn process(name: &[u8]) {
    let tail = b") Z 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1000 2 3 256\n";
    let stat = [b"12 (", name, tail.as_slice()].concat();
    assert_eq!(start_time(&stat), Some(987_654));
    assert_eq!(zombie_status(&stat), Some(cricket_process::ExitStatus::Code(1)));
    let _ = (start_time(name), zombie_status(name));
}
