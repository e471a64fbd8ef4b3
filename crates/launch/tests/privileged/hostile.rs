//! Images that try to reach the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use cricket_wire::helper::Blame;

use crate::harness::Fixture;

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).expect("list").count()
}

#[test]
fn links_for_dev_proc_and_sys_are_refused() {
    for name in ["dev", "proc", "sys"] {
        let outside = tempfile::tempdir().expect("directory");
        let fixture = Fixture::shell("true");
        symlink(outside.path(), fixture.rootfs().join(name)).expect("link");
        let failure = fixture.launch().failure();
        assert_eq!(failure.blame(), Blame::Content);
        assert!(failure.message.contains(&format!("/{name} is not a plain directory")), "{}", failure.message);
        assert_eq!(entries(outside.path()), 0);
    }
}

#[test]
fn mounts_follow_links_inside_the_root_only() {
    let outside = tempfile::tempdir().expect("directory");
    let mut fixture = Fixture::shell("cat /var/run/secrets/token /run/secrets/token /esc/ape/token /etc/file");
    let rootfs = fixture.rootfs();
    fs::create_dir_all(rootfs.join("var")).expect("mkdir");
    fs::create_dir_all(rootfs.join("run")).expect("mkdir");
    symlink("/run", rootfs.join("var/run")).expect("link");
    symlink(outside.path(), rootfs.join("esc")).expect("link");
    // Inside the root the link leads to a directory of that name.
    fs::create_dir_all(rootfs.join(outside.path().strip_prefix("/").expect("absolute"))).expect("mkdir");
    let secrets = fixture.dir.path().join("secrets");
    fs::create_dir(&secrets).expect("mkdir");
    fs::write(secrets.join("token"), "t").expect("write");
    fixture.mount("/var/run/secrets", &secrets, &["rbind", "ro"]);
    fixture.mount("/esc/ape", &secrets, &["rbind", "ro"]);
    fixture.mount("/etc/file", &secrets.join("token"), &["rbind", "ro"]);
    assert_eq!(fixture.launch().output(), "tttt");
    assert_eq!(entries(outside.path()), 0);
}

#[test]
fn a_working_directory_cannot_be_a_leaked_descriptor() {
    for fd in 3..24 {
        let mut fixture = Fixture::shell("ls ..");
        fixture.spec["process"]["cwd"] = format!("/proc/self/fd/{fd}").into();
        let failure = fixture.launch().failure();
        assert_eq!(failure.blame(), Blame::Content, "{}", failure.message);
    }
}

#[test]
fn a_working_directory_through_a_link_stays_inside() {
    let outside = tempfile::tempdir().expect("directory");
    let mut fixture = Fixture::shell("pwd");
    symlink(outside.path(), fixture.rootfs().join("out")).expect("link");
    fixture.spec["process"]["cwd"] = "/out/new".into();
    assert_eq!(fixture.launch().failure().blame(), Blame::Content);
    assert_eq!(entries(outside.path()), 0);
}

#[test]
fn an_order_that_makes_no_sense_is_an_answer_and_no_panic() {
    let mut fixture = Fixture::shell("true");
    fixture.spec["linux"]["namespaces"] = serde_json::json!([{"type": "pid"}]);
    assert!(fixture.launch().failure().message.contains("mount namespace"));
    fixture.id = "../x".into();
    assert!(fixture.launch().failure().message.contains("invalid container id"));
    fixture.spec = serde_json::json!({"ociVersion": "1.0.0"});
    assert!(!fixture.launch().failure().message.is_empty());
}

#[test]
fn nothing_is_made_in_a_dev_that_is_the_hosts() {
    let dev = tempfile::tempdir().expect("directory");
    fs::write(dev.path().join("marker"), "host").expect("write");
    let mut fixture = Fixture::shell("cat /dev/marker /dev/termination-log; ls /dev; cat /proc/self/mountinfo >&2");
    let log = fixture.dir.path().join("log");
    fs::write(&log, "log").expect("write");
    fixture.mount("/dev", dev.path(), &["rbind", "rw"]);
    fixture.mount("/dev/termination-log", &log, &["rbind", "rw"]);
    let (_, out, mounts) = fixture.launch().finish();
    assert_eq!(out, "hostlogmarker\ntermination-log\n");
    // Neither these nor any other mount of the container's sends anything to the host.
    assert!(mounts.contains(" /dev ") && !mounts.contains(" shared:"), "{mounts}");
    // The mount point is what a kubelet's container makes there with every runtime.
    assert_eq!(entries(dev.path()), 2);
}
