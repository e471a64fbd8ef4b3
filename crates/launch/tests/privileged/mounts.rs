//! Mounts as the container and the host see them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use cricket_process::mounts::{Propagation, propagation, tmpfs, unmount_all};
use cricket_wire::helper::Blame;
use serde_json::json;

use crate::harness::Fixture;

/// A directory that is a shared mount of its own; unmounted at the end.
struct Shared(PathBuf);

impl Shared {
    fn new(fixture: &Fixture) -> Self {
        let path = fixture.dir.path().join("shared");
        fs::create_dir(&path).expect("mkdir");
        tmpfs(&path, 1 << 20, 0o755).expect("tmpfs");
        propagation(&path, Propagation::Shared, false).expect("shared");
        for name in ["host", "inside"] {
            fs::create_dir(path.join(name)).expect("mkdir");
        }
        Self(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for name in ["host", "inside"] {
            let _ = unmount_all(&self.0.join(name));
        }
        let _ = unmount_all(&self.0);
    }
}

/// What of the host's later mounts a container sees, and what of the container's the host: by option.
#[test]
fn every_propagation() {
    for (option, sees_host, seen_by_host, tags) in [
        ("rprivate", false, false, ""),
        ("private", false, false, ""),
        ("rslave", true, false, "master:"),
        ("slave", true, false, "master:"),
        ("rshared", true, true, "shared:"),
        ("shared", true, true, "shared:"),
        ("runbindable", false, false, "unbindable"),
    ] {
        let script = "mount -t tmpfs none /v/inside; grep ' /v ' /proc/self/mountinfo; echo ready; \
                      while [ ! -e /go/go ]; do sleep 0.02; done; ls /v/host";
        let mut fixture = Fixture::shell(script);
        let caps = &mut fixture.spec["process"]["capabilities"];
        for set in ["bounding", "effective", "permitted"] {
            caps[set] = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        }
        let shared = Shared::new(&fixture);
        let go = fixture.dir.path().join("go");
        fs::create_dir(&go).expect("mkdir");
        fixture.mount("/v", &shared.0, &["rbind", option]);
        fixture.mount("/go", &go, &["rbind", "rprivate"]);
        let mut launched = fixture.launch();
        let info = launched.read_until("ready\n");
        tmpfs(&shared.0.join("host"), 1 << 16, 0o755).expect("tmpfs");
        fs::write(shared.0.join("host/seen"), "").expect("write");
        let is_mount = cricket_process::mounts::is_mount_point(&shared.0.join("inside")).expect("look");
        fs::write(go.join("go"), "").expect("write");
        let out = launched.output();
        assert_eq!(out.contains("seen"), sees_host, "{option}: {out}");
        assert_eq!(is_mount, seen_by_host, "{option}: {info}");
        match tags {
            "" => assert!(!info.contains("shared:") && !info.contains("master:"), "{option}: {info}"),
            tag => assert!(info.contains(tag), "{option}: {info}"),
        }
    }
}

#[test]
fn the_roots_propagation() {
    for (kind, tag) in [("shared", " shared:"), ("rprivate", " - "), ("unbindable", " unbindable ")] {
        let mut fixture = Fixture::shell("grep ' / / \\|rootfs / ' /proc/self/mountinfo");
        fixture.spec["linux"]["rootfsPropagation"] = kind.into();
        let out = fixture.launch().output();
        assert!(out.contains(tag), "{kind}: {out}");
        assert_eq!(out.contains("shared:"), kind == "shared", "{kind}: {out}");
    }
    let mut fixture = Fixture::shell("true");
    fixture.spec["linux"]["rootfsPropagation"] = "sideways".into();
    assert!(fixture.launch().failure().message.contains("sideways"));
}

#[test]
fn read_only_is_of_the_mount_and_recursive_of_all_below() {
    for (options, top, below) in [
        (&["rbind", "rw"][..], true, true),
        (&["rbind", "ro"], false, true),
        (&["rbind", "rro"], false, false),
        (&["rbind", "ro", "rro"], false, false),
    ] {
        let mut fixture =
            Fixture::shell("touch /v/x 2>/dev/null && echo top; touch /v/host/x 2>/dev/null && echo below; true");
        let shared = Shared::new(&fixture);
        tmpfs(&shared.0.join("host"), 1 << 16, 0o755).expect("tmpfs");
        fixture.mount("/v", &shared.0, options);
        let out = fixture.launch().output();
        assert_eq!((out.contains("top"), out.contains("below")), (top, below), "{options:?}: {out}");
        // The host's own mounts stay as they are.
        fs::write(shared.0.join("host/y"), "").expect("write");
    }
}

#[test]
fn options_of_bind_mounts() {
    let mut fixture = Fixture::shell("/noexec/tool; /exec/tool; grep -E ' /(noexec|exec|times) ' /proc/self/mountinfo");
    let volume = fixture.dir.path().join("volume");
    fs::create_dir(&volume).expect("mkdir");
    fs::write(volume.join("tool"), "#!/bin/sh\necho ran\n").expect("write");
    Command::new("chmod").arg("755").arg(volume.join("tool")).status().expect("chmod");
    fixture.mount("/noexec", &volume, &["rbind", "noexec", "nosuid", "nodev"]);
    fixture.mount("/exec", &volume, &["rbind", "exec"]);
    fixture.mount("/times", &volume, &["rbind", "noatime", "nodiratime", "nosymfollow"]);
    let (_, out, err) = fixture.launch().finish();
    assert_eq!(out.matches("ran\n").count(), 1, "{out}{err}");
    let line = |name: &str| out.lines().find(|l| l.contains(name)).expect("line").to_owned();
    for flag in ["noexec", "nosuid", "nodev"] {
        assert!(line(" /noexec ").contains(flag), "{out}");
    }
    for flag in ["noatime", "nodiratime", "nosymfollow"] {
        assert!(line(" /times ").contains(flag), "{out}");
    }
}

#[test]
fn targets_are_made_also_behind_links_that_lead_nowhere() {
    let mut fixture = Fixture::shell("cat /etc/resolv.conf /deep/er/file; ls /run/systemd/resolve");
    let file = fixture.dir.path().join("file");
    fs::write(&file, "content\n").expect("write");
    symlink("../run/systemd/resolve/stub", fixture.rootfs().join("etc/resolv.conf")).expect("link");
    fixture.mount("/etc/resolv.conf", &file, &["rbind", "ro"]);
    fixture.mount("/deep/er/file", &file, &["rbind", "ro"]);
    assert_eq!(fixture.launch().output(), "content\ncontent\nstub\n");
}

#[test]
fn a_swapper_of_links_gets_nothing_mounted_outside() {
    let outside = tempfile::tempdir().expect("directory");
    fs::create_dir(outside.path().join("target")).expect("mkdir");
    let fixture = Fixture::shell("true");
    let volume = fixture.dir.path().join("volume");
    fs::create_dir_all(volume.join("real/target")).expect("mkdir");
    symlink(outside.path(), volume.join("link")).expect("link");
    // What a container on the same volume does all the time: a directory and a link to the host change places.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapper = {
        let (stop, volume) = (stop.clone(), volume.clone());
        std::thread::spawn(move || {
            let (real, link) = (volume.join("real"), volume.join("link"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(rustix::fs::CWD, &real, rustix::fs::CWD, &link, flags);
            }
        })
    };
    let secret = fixture.dir.path().join("secret");
    fs::create_dir(&secret).expect("mkdir");
    for _ in 0..40 {
        let mut fixture = Fixture::shell("true");
        fixture.mount("/v", &volume, &["rbind", "rshared"]);
        fixture.mount("/v/real/target", &secret, &["rbind", "rshared"]);
        let launched = fixture.launch();
        // It may fail; whatever it does, it does inside.
        if launched.reports.iter().all(|r| r.error.is_none()) {
            launched.finish();
        }
        let info = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!info.contains(&outside.path().display().to_string()), "{info}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().expect("join");
    assert_eq!(fs::read_dir(outside.path()).expect("list").count(), 1);
    assert_eq!(fs::read_dir(outside.path().join("target")).expect("list").count(), 0);
}

#[test]
fn nothing_is_mounted_in_procfs_but_what_shows_resources() {
    let mut fixture = Fixture::shell("cat /proc/uptime");
    let file = fixture.dir.path().join("file");
    fs::write(&file, "fake\n").expect("write");
    fixture.mount("/proc/uptime", &file, &["rbind", "ro"]);
    assert_eq!(fixture.launch().output(), "fake\n");
    for target in ["/proc/self/attr/exec", "/proc/sys/kernel/core_pattern", "/proc/version"] {
        let mut fixture = Fixture::shell("true");
        fixture.mount(target, &file, &["rbind", "ro"]);
        let failure = fixture.launch().failure();
        assert_eq!(failure.blame(), Blame::Content);
        assert!(failure.message.contains("in procfs"), "{}", failure.message);
    }
    let mut fixture = Fixture::shell("true");
    let dir = fixture.dir.path().join("dir");
    fs::create_dir(&dir).expect("mkdir");
    fixture.mount("/proc", &dir, &["rbind", "ro"]);
    assert!(fixture.launch().failure().message.contains("is no procfs"));
}

#[test]
fn a_failure_leaves_no_mount_and_no_process() {
    let before = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo").lines().count();
    let broken: [fn(&mut Fixture); 6] = [
        |f| f.mount("/v", Path::new("/no/such/source"), &["rbind"]),
        |f| f.spec["mounts"].as_array_mut().expect("mounts").push(json!({"destination": "/v", "type": "no-such-fs"})),
        |f| f.spec["linux"]["sysctl"] = json!({"kernel.panic": "1"}),
        |f| f.spec["linux"]["sysctl"] = json!({"net.no.such": "1"}),
        |f| f.spec["process"]["cwd"] = "/bin/sh".into(),
        |f| f.spec["process"]["apparmorProfile"] = "no-such-profile".into(),
    ];
    for (number, breaks) in broken.into_iter().enumerate() {
        let mut fixture = Fixture::shell("true");
        breaks(&mut fixture);
        let launched = fixture.launch();
        assert!(!launched.failure().message.is_empty(), "{number}");
        assert!(fixture.cgroup.is_empty().expect("cgroup"), "{number}: a process was left");
    }
    let after = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(after.lines().count() <= before + 2, "{after}");
}

#[test]
fn names_and_parameters_of_its_own_namespaces() {
    let mut fixture =
        Fixture::shell("cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni");
    fixture.spec["hostname"] = "named".into();
    fixture.spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "1234"});
    let own = fs::read_to_string("/proc/sys/kernel/shmmni").expect("own");
    assert_eq!(fixture.launch().output(), "named\n1\n1234\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/shmmni").expect("own"), own);
    let mut fixture = Fixture::shell("true");
    fixture.spec["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != "uts");
    assert!(fixture.launch().failure().message.contains("without a UTS namespace"));
}
