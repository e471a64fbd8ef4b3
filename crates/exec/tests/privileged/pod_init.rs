//! The init of a pod with a shared PID namespace.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use cricket_process::namespaces::{self, Kinds};
use cricket_process::{Pidfd, Spawn, pin};
use cricket_wire::exec_config::{CgroupJoin, ExecConfig, PodInitConfig};
use cricket_wire::helper::FIRST_EXTRA_FD;

use crate::support::{Container, Outcome, Status, run};

fn config() -> PodInitConfig {
    PodInitConfig { user_fd: None, namespace_fds: Vec::new(), cgroup: CgroupJoin::Stay, oom_score_adj: Some(555) }
}

fn read(outcome: &Outcome, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{file}", outcome.report.pid)).expect(file)
}

/// Runs a shell's script as a child of this process, but in the PID namespace.
fn inside(outcome: &Outcome, script: &str) -> i32 {
    let pidfd = Pidfd::open(outcome.report.pid).expect("pidfd");
    let busybox = File::open("/bin/busybox").expect("busybox");
    let null = File::open("/dev/null").expect("null");
    std::thread::scope(|scope| {
        let run = || {
            pidfd.join_namespaces(Kinds::PID).expect("join");
            let spawn = Spawn::new(&busybox, ["sh", "-c", script]).env("PATH", "/bin");
            spawn.fd(0, &null).fd(1, &null).fd(2, &null).spawn().expect("spawn").wait().expect("wait").shell_code()
        };
        scope.spawn(run).join().expect("thread")
    })
}

#[test]
fn it_is_shut_in_reaps_and_ends_only_from_outside() {
    let (fds, ()) = namespaces::make(Kinds::UTS.with(Kinds::IPC), || namespaces::set_hostname("pod")).expect("make");
    let config = PodInitConfig { namespace_fds: vec![FIRST_EXTRA_FD, FIRST_EXTRA_FD + 1], ..config() };
    let outcome = run(&ExecConfig::PodInit(config), &[fds[0].1.as_fd(), fds[1].1.as_fd()]);
    let status = Status(read(&outcome, "status"));
    assert_eq!(status.field("Name"), "cricket-init");
    assert_eq!(status.field("NSpid").split_whitespace().nth(1), Some("1"));
    assert_eq!(status.field("Uid"), "65535\t65535\t65535\t65535");
    let sets = status.capabilities();
    for set in [sets.bounding, sets.permitted, sets.effective, sets.inheritable, sets.ambient] {
        assert!(set.is_empty(), "{sets:?}");
    }
    let pid = outcome.report.pid;
    assert_eq!(std::fs::read_dir(format!("/proc/{pid}/root")).expect("root").count(), 0);
    assert!(std::fs::create_dir(format!("/proc/{pid}/root/x")).is_err());
    assert_eq!(std::fs::read_dir(format!("/proc/{pid}/fd")).expect("fd").count(), 0);
    assert_eq!(read(&outcome, "oom_score_adj"), "555\n");
    assert_eq!(read(&outcome, "mounts").lines().count(), 1);
    for (kind, fd) in &fds {
        let own = std::fs::metadata(format!("/proc/{pid}/ns/{}", kind)).expect("namespace");
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&own), rustix::fs::fstat(fd).expect("stat").st_ino);
    }

    // From inside nothing ends it; what others leave behind is reaped.
    assert_eq!(inside(&outcome, "kill -TERM 1; kill -KILL 1; kill -INT 1; (sleep 0.05 & sleep 0.01 &); true"), 0);
    let pidfd = Pidfd::open(pid).expect("pidfd");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !read(&outcome, &format!("task/{pid}/children")).is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "children are left: {}",
            read(&outcome, &format!("task/{pid}/children"))
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(pidfd.is_alive().expect("alive"));
    pidfd.send_signal(libc::SIGTERM).expect("signal");
    assert_eq!(outcome.status().shell_code(), 0);
}

#[test]
fn it_can_be_made_in_a_user_namespace() {
    // Some process's user namespace stands for the pod's; pinned, so that only the file is used.
    let container = Container::start_in_user_namespace();
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("user");
    let user = File::open(format!("/proc/{}/ns/user", container.pid)).expect("open");
    pin::pin(&user, &path).expect("pin");
    let user = File::open(&path).expect("open");
    let uts = File::open(format!("/proc/{}/ns/uts", container.pid)).expect("open");
    let config = PodInitConfig { user_fd: Some(FIRST_EXTRA_FD), namespace_fds: vec![FIRST_EXTRA_FD + 1], ..config() };
    let outcome = run(&ExecConfig::PodInit(config), &[user.as_fd(), uts.as_fd()]);
    let status = Status(read(&outcome, "status"));
    assert_eq!(status.field("Uid"), "165535\t165535\t165535\t165535");
    assert_eq!(
        std::fs::read_link(format!("/proc/{}/ns/user", outcome.report.pid)).expect("link"),
        std::fs::read_link(format!("/proc/{}/ns/user", container.pid)).expect("link"),
    );
    Pidfd::open(outcome.report.pid).expect("pidfd").send_signal(libc::SIGKILL).expect("kill");
    assert_eq!(outcome.status().shell_code(), 137);
    pin::unpin(&path).expect("unpin");
}

#[test]
fn nobody_becomes_it_by_name() {
    let mut helper = std::process::Command::new(env!("CARGO_BIN_EXE_cricket-exec"));
    assert_eq!(helper.arg0("cricket-init").status().expect("run").code(), Some(1));
}
