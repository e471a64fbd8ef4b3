//! Starts the helper as the monitor does: descriptors 0–4 and those that the configuration names.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Container;
use cricket_process::{ExitStatus, Spawn, memfd};
use cricket_wire::exec_config::{CgroupJoin, CommandConfig, ExecConfig};
use cricket_wire::helper::{CONFIG_FD, FIRST_EXTRA_FD, Failure, MAX_REPORT, REPORT_FD, Report};
use cricket_wire::packet;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// What came of it.
pub(crate) struct Outcome {
    /// The helper's report.
    pub(crate) report: Report,
    /// The master of the terminal.
    pub(crate) terminal: Option<OwnedFd>,
    output: io::PipeReader,
}

impl Outcome {
    /// The failure that was reported.
    pub(crate) fn failure(self) -> Failure {
        self.report.error.expect("a failure")
    }

    /// Waits for the command, which is a child of the test.
    pub(crate) fn status(&self) -> ExitStatus {
        assert_eq!(self.report.error, None);
        let pid = rustix::process::Pid::from_raw(self.report.pid).expect("a PID");
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(pid), options).expect("a child of ours").expect("its status");
        ExitStatus::from_wait_status(status.as_raw())
    }

    /// Both output streams until their end, and the status as a shell counts it.
    pub(crate) fn output(mut self) -> (String, i32) {
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("read");
        let status = self.status().shell_code();
        (text, status)
    }
}

/// A command with the rights of a usual container's root.
pub(crate) fn command(args: &[&str]) -> CommandConfig {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    CommandConfig {
        target_fd: FIRST_EXTRA_FD,
        namespaces: None,
        cgroup: CgroupJoin::Stay,
        args: owned(args),
        env: owned(&["PATH=/bin", "A=b c"]),
        cwd: "/".into(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        capabilities: owned(&["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_DAC_OVERRIDE"]),
        ambient: Vec::new(),
        no_new_privileges: false,
        seccomp: None,
        apparmor_profile: None,
        selinux_label: None,
        rlimits: Vec::new(),
        oom_score_adj: None,
        terminal: None,
    }
}

/// Executes a command in a container.
pub(crate) fn execute(container: &Container, config: CommandConfig) -> Outcome {
    run(&ExecConfig::Command(Box::new(config)), &[container.pidfd.as_fd()])
}

/// Runs the helper with these extra descriptors, from [`FIRST_EXTRA_FD`] on.
pub(crate) fn run(config: &ExecConfig, extra: &[BorrowedFd<'_>]) -> Outcome {
    // Another build of it, such as the static one of a release, may be put to the same tests.
    let program = std::env::var_os("CRICKET_EXEC").unwrap_or_else(|| env!("CARGO_BIN_EXE_cricket-exec").into());
    let program = File::open(program).expect("the helper");
    let config = memfd::config(&serde_json::to_vec(config).expect("JSON")).expect("memfd");
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("sockets");
    let null = File::open("/dev/null").expect("null");
    let (reader, writer) = io::pipe().expect("pipe");
    let mut spawn = Spawn::new(&program, ["cricket-exec"])
        .fd(0, &null)
        .fd(1, &writer)
        .fd(2, &writer)
        .fd(REPORT_FD, &theirs)
        .fd(CONFIG_FD, &config);
    for (number, fd) in (FIRST_EXTRA_FD..).zip(extra) {
        spawn = spawn.fd(number, fd);
    }
    let mut helper = spawn.spawn().expect("start the helper");
    drop((theirs, writer));
    let (report, fds) = packet::receive::<Report>(ours.as_fd(), &mut vec![0; MAX_REPORT]).expect("a report");
    let code = helper.wait().expect("the helper's status");
    assert_eq!(code, ExitStatus::Code(report.error.is_some().into()), "{report:?}");
    assert_eq!(report.terminal, !fds.is_empty());
    Outcome { report, terminal: fds.into_iter().next(), output: reader }
}
