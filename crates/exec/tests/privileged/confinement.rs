//! Filters, terminals, control groups.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use cricket_process::memfd;
use cricket_wire::exec_config::{CgroupJoin, CommandConfig, ExecConfig, SeccompConfig, TerminalSize};
use cricket_wire::helper::{Blame, FIRST_EXTRA_FD};

use crate::support::{Container, Status, command, execute, run};

/// A program that denies mkdir(2) and mkdirat(2) with an unusual error and allows the rest.
fn denies_mkdir() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, if_true, if_false, value) in [
        (0x20_u16, 0_u8, 0_u8, 0_u32),
        #[cfg(target_arch = "x86_64")]
        (0x15, 1, 0, libc::SYS_mkdir as u32),
        (0x15, 0, 1, libc::SYS_mkdirat as u32),
        (0x06, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EDQUOT as u32),
        (0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ] {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([if_true, if_false]);
        bytes.extend(value.to_ne_bytes());
    }
    bytes
}

#[test]
fn the_filter_is_loaded_with_and_without_no_new_privileges() {
    let container = Container::start();
    let program = memfd::config(&denies_mkdir()).expect("memfd");
    for (uid, no_new_privileges) in [(0, false), (0, true), (1000, false), (1000, true)] {
        let script = "mkdir /tmp/x; cat /proc/self/status";
        let config = CommandConfig {
            uid,
            no_new_privileges,
            ambient: vec!["CAP_KILL".into()],
            seccomp: Some(SeccompConfig { program_fd: FIRST_EXTRA_FD + 1, flags: 0 }),
            ..command(&["sh", "-c", script])
        };
        let config = ExecConfig::Command(Box::new(config));
        let (text, _) = run(&config, &[container.pidfd.as_fd(), program.as_fd()]).output();
        assert!(text.contains("quota exceeded"), "{text}");
        let status = Status(text);
        assert_eq!(status.field("Seccomp"), "2");
        assert_eq!(status.field("NoNewPrivs"), if no_new_privileges { "1" } else { "0" });
        let (admin, _) = cricket_process::caps::Set::from_names(["CAP_SYS_ADMIN"]);
        let sets = status.capabilities();
        assert!(sets.permitted.union(sets.bounding).intersection(admin).is_empty(), "{sets:?}");
        let (kill, _) = cricket_process::caps::Set::from_names(["CAP_KILL"]);
        assert_eq!((sets.ambient, sets.inheritable), (kill, kill), "what the filter takes is not in the way");
    }
    assert!(!container.root().join("tmp/x").exists());
}

#[test]
fn a_broken_filter_is_an_error_and_nothing_runs() {
    let container = Container::start();
    let program = memfd::config(&[0xff; 16]).expect("memfd");
    let config = CommandConfig {
        seccomp: Some(SeccompConfig { program_fd: FIRST_EXTRA_FD + 1, flags: 0 }),
        ..command(&["mkdir", "/tmp/x"])
    };
    let outcome = run(&ExecConfig::Command(Box::new(config)), &[container.pidfd.as_fd(), program.as_fd()]);
    assert_eq!(outcome.failure().blame(), Blame::Host);
    assert!(!container.root().join("tmp/x").exists());
}

#[test]
fn apparmor_is_never_skipped() {
    // Where there is no AppArmor its file cannot be opened; where there is, no profile has this name.
    let container = Container::start();
    let config = CommandConfig {
        apparmor_profile: Some("cricket-test-no-such-profile".into()),
        ..command(&["mkdir", "/tmp/x"])
    };
    assert_eq!(execute(&container, config).failure().blame(), Blame::Host);
    assert!(!container.root().join("tmp/x").exists());
}

fn read_terminal(master: &mut File) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
    // EIO is the end: nobody has the slave open any more.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        text.extend(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).replace("\r\n", "\n")
}

#[test]
fn terminals_are_the_containers_and_of_the_size() {
    for container in [Container::start(), Container::start_in_user_namespace()] {
        let config = CommandConfig {
            uid: 1000,
            terminal: Some(TerminalSize { rows: 33, columns: 101 }),
            ..command(&["sh", "-c", "tty; stty size; ls -n $(tty); echo x >/dev/tty 2>&1; ls -1 /proc/self/fd"])
        };
        let mut outcome = execute(&container, config);
        let mut master = File::from(outcome.terminal.take().expect("a terminal"));
        let text = read_terminal(&mut master);
        assert!(text.starts_with("/dev/pts/0\n33 101\ncrw--w----    1 1000 "), "{text}");
        // The descriptor 3 is the directory that ls reads.
        assert!(text.ends_with("0\n1\n2\n3\n"), "{text}");
        assert_eq!(outcome.status().shell_code(), 0);
    }
}

#[test]
fn a_terminal_hangs_up_its_command() {
    let container = Container::start();
    let config = CommandConfig { terminal: Some(TerminalSize::default()), ..command(&["sleep", "1000"]) };
    let mut outcome = execute(&container, config);
    drop(outcome.terminal.take());
    assert_eq!(outcome.status().shell_code(), 128 + libc::SIGHUP);
}

#[test]
fn a_false_devpts_is_refused() {
    let container = Container::start();
    // The container puts its own things where the terminals are expected: a FIFO that would block, and a link.
    let script = "umount /dev/pts && busybox mkfifo /dev/pts/ptmx";
    let config = CommandConfig { capabilities: vec!["CAP_SYS_ADMIN".into()], ..command(&["sh", "-c", script]) };
    assert_eq!(execute(&container, config).output(), (String::new(), 0));
    let config = || CommandConfig { terminal: Some(TerminalSize::default()), ..command(&["true"]) };
    assert_eq!(execute(&container, config()).failure().blame(), Blame::Content);
    let script = "rm() { busybox rm \"$@\"; }; rm /dev/pts/ptmx && busybox ln -s /proc/1/root/dev/null /dev/pts/ptmx";
    assert_eq!(execute(&container, command(&["sh", "-c", script])).output().1, 0);
    assert_eq!(execute(&container, config()).failure().blame(), Blame::Content);
}

/// A directory in a hierarchy, removed at the end.
struct Group(PathBuf);

impl Group {
    /// `None` where this host has no such hierarchy.
    fn make(hierarchy: &str) -> Option<Self> {
        let root = Path::new(hierarchy);
        root.join("cgroup.procs").exists().then(|| {
            // Tests that run at the same time have groups of the same hierarchy.
            static SERIAL: AtomicU32 = AtomicU32::new(0);
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("cricket-exec-test-{}-{serial}", std::process::id()));
            std::fs::create_dir(&path).expect("make a cgroup");
            Self(path)
        })
    }

    fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).expect("name")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn control_groups_of_version_1_are_joined() {
    let groups: Vec<_> =
        ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/freezer"].iter().filter_map(|h| Group::make(h)).collect();
    if groups.is_empty() {
        return; // A host with version 2 only, which the next test covers.
    }
    let container = Container::start();
    let files: Vec<_> =
        groups.iter().map(|g| File::options().write(true).open(g.0.join("tasks")).expect("tasks")).collect();
    let numbers = (FIRST_EXTRA_FD + 1..).take(files.len()).collect();
    let config = CommandConfig { cgroup: CgroupJoin::TasksFds(numbers), ..command(&["cat", "/proc/self/cgroup"]) };
    let mut extra = vec![container.pidfd.as_fd()];
    extra.extend(files.iter().map(AsFd::as_fd));
    let (text, _) = run(&ExecConfig::Command(Box::new(config)), &extra).output();
    for group in &groups {
        let controller = group.0.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("name");
        assert!(text.contains(&format!(":{controller}:/{}\n", group.name())), "{text}");
    }
}

/// A group of the unified hierarchy, where the host has one.
fn unified() -> Option<Group> {
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let mut mounted = places.iter().filter(|path| Path::new(path).join("cgroup.controllers").exists());
    mounted.find_map(|path| Group::make(path))
}

#[test]
fn control_groups_of_a_hybrid_host_are_joined() {
    let (Some(v1), Some(v2)) = (Group::make("/sys/fs/cgroup/pids"), unified()) else { return };
    let container = Container::start();
    let tasks = File::options().write(true).open(v1.0.join("tasks")).expect("tasks");
    let directory = File::open(&v2.0).expect("open");
    let cgroup = CgroupJoin::Hybrid { tasks_fds: vec![FIRST_EXTRA_FD + 1], directory_fd: FIRST_EXTRA_FD + 2 };
    let config = CommandConfig { cgroup, ..command(&["cat", "/proc/self/cgroup"]) };
    let extra = [container.pidfd.as_fd(), tasks.as_fd(), directory.as_fd()];
    let (text, _) = run(&ExecConfig::Command(Box::new(config)), &extra).output();
    assert!(text.contains(&format!(":pids:/{}\n", v1.name())), "{text}");
    assert!(text.contains(&format!("0::/{}\n", v2.name())), "{text}");
}

#[test]
fn control_groups_of_version_2_are_joined() {
    let Some(group) = unified() else { return };
    for container in [Container::start(), Container::start_in_user_namespace()] {
        let directory = File::open(&group.0).expect("open");
        let config = CommandConfig {
            cgroup: CgroupJoin::DirectoryFd(FIRST_EXTRA_FD + 1),
            ..command(&["cat", "/proc/self/cgroup"])
        };
        let config = ExecConfig::Command(Box::new(config));
        let (text, _) = run(&config, &[container.pidfd.as_fd(), directory.as_fd()]).output();
        assert!(text.contains(&format!("0::/{}\n", group.name())), "{text}");
    }
}
