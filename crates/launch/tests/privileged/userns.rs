//! User namespaces: made for the container or joined, ID-mapped volumes and root, devices of the host.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use cricket_process::userns::{self, Range};
use cricket_wire::helper::Blame;
use cricket_wire::launch_config::LaunchConfig;
use serde_json::json;

use crate::harness::Fixture;

pub(crate) const FIRST: u32 = 300_000;
pub(crate) const LENGTH: u32 = 65_536;

/// A container whose users are the host's from [`FIRST`] on, and whose root file system belongs to its root.
pub(crate) fn fixture(command: &str) -> Fixture {
    let mut fixture = Fixture::shell(command);
    let mapping = json!([{"containerID": 0, "hostID": FIRST, "size": LENGTH}]);
    fixture.spec["linux"]["uidMappings"] = mapping.clone();
    fixture.spec["linux"]["gidMappings"] = mapping;
    let namespaces = fixture.spec["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.push(json!({"type": "user"}));
    fixture.pass_through();
    fixture.own_rootfs(FIRST);
    fixture
}

#[test]
fn its_own_user_namespace() {
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G; touch /tmp/made; stat -c %u:%g /bin/sh; \
                  echo x > /dev/null && head -c 1 /dev/zero > /dev/null && echo devices; ls -d /dev/pts/ptmx; sleep 30";
    let mut fixture = fixture(script);
    fixture.spec["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
    fs::create_dir_all(fixture.rootfs().join("tmp")).expect("mkdir");
    chown(fixture.rootfs().join("tmp"), Some(FIRST + 7), Some(FIRST)).expect("chown");
    let mut launched = fixture.launch();
    let out = launched.read_until("ptmx\n");
    let status = fs::read_to_string(format!("/proc/{}/status", launched.pid())).expect("status");
    assert!(status.contains(&format!("Uid:\t{}\t", FIRST + 7)), "{status}");
    fixture.cgroup.kill_all().expect("kill");
    let (_, _, err) = launched.finish();
    let lines: Vec<_> = out.lines().map(str::trim).collect();
    let map = format!("0     {FIRST}      {LENGTH}");
    assert_eq!(lines, [map.as_str(), map.as_str(), "7", "8 9", "0:0", "devices", "/dev/pts/ptmx"], "{err}");
    let made = fs::metadata(fixture.rootfs().join("tmp/made")).expect("made");
    assert_eq!((made.uid(), made.gid()), (FIRST + 7, FIRST + 8));
}

#[test]
fn the_pods_user_namespace_by_descriptor_and_by_path() {
    let range = [Range { inside: 0, outside: FIRST, length: LENGTH }];
    let user = userns::make(&range, &range).expect("user namespace");
    let inode = rustix::fs::fstat(&user).expect("stat").st_ino;
    let expected = format!("user:[{inode}]\n");
    let mut fixture = fixture("readlink /proc/self/ns/user");
    fixture.descriptors.push(user.try_clone().expect("descriptor"));
    let LaunchConfig::Youki(mut config) = fixture.youki() else { panic!("kind") };
    config.user_namespace_fd = Some(5);
    assert_eq!(fixture.launch_with(&LaunchConfig::Youki(config)).output(), expected);
    let by_path = self::fixture("readlink /proc/self/ns/user");
    let path = format!("/proc/{}/fd/{}", std::process::id(), user.as_raw_fd());
    let mut spec = by_path.spec.clone();
    for namespace in spec["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        if namespace["type"] == "user" {
            namespace["path"] = path.clone().into();
        }
    }
    let mut by_path = by_path;
    by_path.spec = spec;
    assert_eq!(by_path.launch().output(), expected);
}

#[test]
fn capabilities_end_at_the_user_namespace() {
    let mut fixture = fixture(
        "mount -t tmpfs none /tmp && echo mounted; mknod /tmp/zero c 1 5 2>/dev/null && echo made; \
         echo 1 > /proc/sys/kernel/panic && echo host; cat /proc/self/status",
    );
    let all = json!(cricket_process::caps::bounding().expect("caps").names().collect::<Vec<_>>());
    for set in ["bounding", "effective", "permitted"] {
        fixture.spec["process"]["capabilities"][set] = all.clone();
    }
    fixture.spec["linux"]["readonlyPaths"] = json!([]);
    let out = fixture.launch().output();
    assert!(out.starts_with("mounted\n"), "{out}");
    assert!(!out.contains("host\n") && !out.contains("made\n"), "{out}");
    assert!(out.contains("CapInh:\t0000000000000000"), "{out}");
}

#[test]
fn with_the_hosts_network_it_sees_the_hosts_sysfs() {
    let mut fixture =
        fixture("ls /sys/class/net > /dev/null && echo net; touch /sys/x 2>/dev/null && echo written; true");
    fixture.spec["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "network");
    assert_eq!(fixture.launch().output(), "net\n");
}

#[test]
fn volumes_are_mapped_and_keep_their_owners() {
    let mut fixture = fixture(
        "stat -c %u:%g /same/file /own/file /plain/file; touch /same/new /own/new; touch /plain/new 2>/dev/null && echo wrote",
    );
    let volume = fixture.dir.path().join("volume");
    fs::create_dir(&volume).expect("mkdir");
    fs::write(volume.join("file"), "").expect("write");
    chown(volume.join("file"), Some(5), Some(6)).expect("chown");
    // As the container's user namespace does, by mappings of its own, and not at all.
    fixture.mount("/same", &volume, &["rbind", "rw", "ridmap"]);
    fixture.mount("/own", &volume, &["rbind", "rw"]);
    fixture.mount("/plain", &volume, &["rbind", "rw"]);
    let mapping = json!([{"containerID": 0, "hostID": FIRST + 100, "size": 1000}]);
    let mounts = fixture.spec["mounts"].as_array_mut().expect("mounts");
    let own = mounts.iter_mut().find(|m| m["destination"] == "/own").expect("own");
    own["uidMappings"] = mapping.clone();
    own["gidMappings"] = mapping;
    let (_, out, err) = fixture.launch().finish();
    // On a mount with another mapping 5 is the host's FIRST + 105, which the container calls 105.
    assert_eq!(out, "5:6\n105:106\n65534:65534\n", "{err}");
    let new = fs::metadata(volume.join("new")).expect("new");
    // The same file: made through the first, touched through the second.
    assert_eq!((new.uid(), new.gid()), (0, 0));
}

#[test]
fn a_mapped_root_belongs_to_the_containers_root() {
    let mut fixture = fixture("stat -c %u:%g / /bin/sh; touch /made && echo ok");
    fixture.own_rootfs(0);
    let LaunchConfig::Youki(mut config) = fixture.youki() else { panic!("kind") };
    config.map_root = true;
    assert_eq!(fixture.launch_with(&LaunchConfig::Youki(config)).output(), "0:0\n0:0\nok\n");
    assert_eq!(fs::metadata(fixture.rootfs().join("made")).expect("made").uid(), 0);
    fixture.spec["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "user");
    let LaunchConfig::Youki(mut config) = fixture.youki() else { panic!("kind") };
    config.map_root = true;
    assert!(fixture.launch_with(&LaunchConfig::Youki(config)).failure().message.contains("without a user namespace"));
}

#[test]
fn a_terminal() {
    let mut fixture = fixture("tty; sleep 0.2");
    fixture.terminal = true;
    let mut launched = fixture.launch();
    assert!(launched.terminal.take().is_some());
    launched.finish();
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let mut fixture = Fixture::shell("true");
    let volume = fixture.dir.path().join("volume");
    fs::create_dir(&volume).expect("mkdir");
    fixture.mount("/v", &volume, &["rbind", "ridmap"]);
    assert!(fixture.launch().failure().message.contains("nothing says how"));
    let mut fixture = self::fixture("true");
    fixture.mount("/v", Path::new("/proc/self"), &["bind", "idmap"]);
    let failure = fixture.launch().failure();
    assert!(failure.message.contains("its file system has to support that"), "{}", failure.message);
    assert_eq!(failure.blame(), Blame::Host);
}
