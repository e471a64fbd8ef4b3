//! A container runs: its status, output, user, directory, terminal, environment, and what a failing command says.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use cricket_process::ExitStatus;
use cricket_wire::helper::Blame;

use crate::harness::Fixture;

#[test]
fn status_and_output_and_nothing_left() {
    let fixture = Fixture::shell("echo out; echo err >&2; exit 7");
    let (status, out, err) = fixture.launch().finish();
    assert_eq!((status, out.as_str(), err.as_str()), (ExitStatus::Code(7), "out\n", "err\n"));
    let left = fs::read_dir(fixture.dir.path()).expect("bundle").map(|e| e.expect("entry").file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["config.json", "rootfs"]);
}

#[test]
fn environment_is_exact_and_signals_are_default() {
    let fixture = Fixture::new(&["/bin/env"]);
    assert_eq!(fixture.launch().output(), "PATH=/usr/bin:/bin\nHOME=/root\nWITH-DASH=1\n");
    let fixture = Fixture::shell("yes | head -n 1; cat /proc/self/status; umask");
    let out = fixture.launch().output();
    for line in ["SigIgn:\t0000000000000000", "SigBlk:\t0000000000000000"] {
        assert!(out.contains(line), "{out}");
    }
    assert!(out.ends_with("0022\n"), "{out}");
}

#[test]
fn a_command_that_is_not_there() {
    let failure = |args: &[&str]| {
        let fixture = Fixture::new(args);
        fs::write(fixture.rootfs().join("bin/plain"), "").expect("write");
        let launched = fixture.launch();
        assert!(fixture.cgroup.is_empty().expect("cgroup"), "an init was left");
        let failure = launched.failure();
        assert_eq!(failure.blame(), Blame::Command);
        assert_eq!(launched.reports[0].pid, 0, "nothing was made");
        (failure.message, failure.shell_status)
    };
    assert_eq!(failure(&["foo"]), ("exec: \"foo\": executable file not found in $PATH".into(), 127));
    assert_eq!(failure(&["/no/foo"]), ("exec: \"/no/foo\": stat /no/foo: no such file or directory".into(), 127));
    assert_eq!(failure(&["/bin/plain"]), ("exec: \"/bin/plain\": permission denied".into(), 126));
    assert_eq!(failure(&["/etc"]), ("exec: \"/etc\": is a directory".into(), 126));
}

#[test]
fn a_command_of_a_wrong_format_is_reported_after_its_pid() {
    let fixture = Fixture::new(&["/bin/odd"]);
    let odd = fixture.rootfs().join("bin/odd");
    fs::write(&odd, "\u{7f}not an executable").expect("write");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o755)).expect("chmod");
    let launched = fixture.launch();
    let failure = launched.failure();
    assert_eq!((failure.message.as_str(), failure.shell_status), ("exec /bin/odd: exec format error", 126));
    assert_eq!(launched.reports.len(), 2);
    assert!(launched.reports[0].pid > 0 && launched.reports[0].pid == launched.reports[1].pid);
}

#[test]
fn a_user_executes_what_only_it_may() {
    let mut fixture = Fixture::new(&["mine", "-u"]);
    let mine = fixture.rootfs().join("bin/mine");
    fs::write(&mine, "#!/bin/sh\nid -u; id -G; pwd; touch here\n").expect("write");
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o700)).expect("chmod");
    chown(&mine, Some(1000), Some(1000)).expect("chown");
    fixture.spec["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000, "additionalGids": [1000, 2000]});
    fixture.spec["process"]["cwd"] = "/work/dir".into();
    assert_eq!(fixture.launch().output(), "1000\n1000 2000\n/work/dir\n");
    let made = fs::metadata(fixture.rootfs().join("work/dir")).expect("made");
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (1000, 1000, 0o755));
    // Another user may not, unless by capability.
    for set in ["effective", "permitted"] {
        fixture.spec["process"]["capabilities"][set] = serde_json::json!([]);
    }
    fixture.spec["process"]["user"] = serde_json::json!({"uid": 1001, "gid": 1001});
    assert_eq!(fixture.launch().failure().message, "exec: \"mine\": permission denied");
}

#[test]
fn a_working_directory_on_a_read_only_root_and_in_a_volume() {
    let mut fixture = Fixture::new(&["/bin/pwd"]);
    fixture.spec["root"]["readonly"] = true.into();
    fixture.spec["process"]["cwd"] = "/made/first".into();
    assert_eq!(fixture.launch().output(), "/made/first\n");
    let volume = fixture.dir.path().join("volume");
    fs::create_dir(&volume).expect("mkdir");
    fixture.mount("/data", &volume, &["rbind", "rw"]);
    fixture.spec["process"]["cwd"] = "/data/sub".into();
    assert_eq!(fixture.launch().output(), "/data/sub\n");
    assert!(volume.join("sub").is_dir());
    assert!(!fixture.rootfs().join("data/sub").exists());
}

#[test]
fn a_terminal_comes_with_the_report() {
    let mut fixture = Fixture::shell("tty; test -t 0 && test -t 1 && test -t 2 && echo yes; sleep 0.2");
    fixture.terminal = true;
    let mut launched = fixture.launch();
    assert!(launched.reports[0].terminal);
    let mut master = File::from(launched.terminal.take().expect("a master"));
    let mut text = String::new();
    let mut bytes = [0; 256];
    // EIO is how a terminal without processes ends.
    while let Ok(got @ 1..) = master.read(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..got]));
    }
    assert!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "{text:?}");
    assert!(text.contains("yes\r\n"), "{text:?}");
    assert_eq!(launched.finish().0, ExitStatus::Code(0));
}

#[test]
fn the_pid_is_a_child_in_every_hierarchy_of_its_cgroup() {
    let fixture = Fixture::new(&["/bin/sleep", "30"]);
    let launched = fixture.launch();
    let pid = launched.pid();
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    for line in text.lines() {
        assert!(line.ends_with(fixture.cgroup.path().as_str()), "{text}");
    }
    assert_eq!(fixture.cgroup.procs().expect("procs"), [pid]);
    fixture.cgroup.kill_all().expect("kill");
    assert_eq!(launched.finish().0, ExitStatus::Signal(9));
}

#[test]
fn a_pid_namespace_that_is_joined() {
    let other = Fixture::new(&["/bin/sleep", "30"]);
    let target = other.launch();
    let path = format!("/proc/{}/ns/pid", target.pid());
    let mut fixture = Fixture::shell("readlink /proc/self/ns/pid; ls -d /proc/1/cwd && cat /proc/1/comm");
    for namespace in fixture.spec["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        if namespace["type"] == "pid" {
            namespace["path"] = path.clone().into();
        }
    }
    let joined = fs::read_link(&path).expect("link").display().to_string();
    assert_eq!(fixture.launch().output(), format!("{joined}\n/proc/1/cwd\nsleep\n"));
    other.cgroup.kill_all().expect("kill");
    assert_eq!(target.finish().0, ExitStatus::Signal(9));
}

#[test]
fn limits_are_the_commands_and_not_those_of_its_making() {
    let mut fixture = Fixture::shell("cat /proc/self/limits");
    fixture.spec["process"]["rlimits"] = serde_json::json!([
        {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6},
        {"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX},
    ]);
    let out = fixture.launch().output();
    let line =
        |name: &str| out.lines().find(|l| l.starts_with(name)).expect("line").split_whitespace().collect::<Vec<_>>();
    assert_eq!(line("Max open files")[3..5], ["5", "6"]);
    assert_eq!(line("Max file size")[3..5], ["0", "0"]);
    assert_eq!(line("Max core file size")[4], "0");
}
