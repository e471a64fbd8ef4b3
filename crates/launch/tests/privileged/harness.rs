//! Starts the helper as a monitor does: out of a sealed file, with an exact set of descriptors.

use std::fs::{self, File};
use std::io::{PipeReader, Read, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cricket_cgroup::{Cgroup, Hierarchies};
use cricket_process::{Child, ExitStatus, Spawn, memfd};
use cricket_wire::exec_config::SeccompConfig;
use cricket_wire::helper::{CONFIG_FD, Failure, MAX_REPORT, REPORT_FD, Report};
use cricket_wire::launch_config::{CgroupDirectory, LaunchCgroup, LaunchConfig, YoukiConfig};
use prost::Message;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg, socketpair,
};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};
use tempfile::TempDir;

static COUNT: AtomicU32 = AtomicU32::new(0);

fn program() -> &'static OwnedFd {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // A runtime's `create` leaves its init to the nearest subreaper.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("subreaper");
        let file = File::open(env!("CARGO_BIN_EXE_cricket-launch")).expect("helper");
        memfd::seal(file, "cricket-launch").expect("seal")
    })
}

/// A bundle with a busybox root file system and a cgroup; all removed at the end.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) id: String,
    pub(crate) cgroup: Cgroup,
    pub(crate) spec: Value,
    pub(crate) seccomp: Option<OwnedFd>,
    /// Further descriptors of the helper, after the seccomp program.
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) terminal: bool,
}

/// What a launch came to.
pub(crate) struct Launched {
    pub(crate) reports: Vec<Report>,
    pub(crate) helper: ExitStatus,
    pub(crate) terminal: Option<OwnedFd>,
    stdout: PipeReader,
    stderr: PipeReader,
}

impl Fixture {
    /// A container that runs a shell command.
    pub(crate) fn shell(command: &str) -> Self {
        Self::new(&["/bin/sh", "-c", command])
    }

    pub(crate) fn new(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let id = format!("launch-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let rootfs = dir.path().join("rootfs");
        for name in ["bin", "etc", "tmp", "home"] {
            fs::create_dir_all(rootfs.join(name)).expect("mkdir");
        }
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).expect("busybox");
        let copied = Command::new("cp").arg(busybox).arg(rootfs.join("bin/busybox")).status().expect("cp");
        assert!(copied.success(), "cp {busybox}: {copied}");
        for applet in [
            "sh", "cat", "ls", "id", "mkdir", "mknod", "uname", "sleep", "tty", "pwd", "touch", "stat", "env", "yes",
            "head", "mount", "readlink", "grep",
        ] {
            fs::hard_link(rootfs.join("bin/busybox"), rootfs.join("bin").join(applet)).expect("link");
        }
        let path = format!("/cricket-launch-test/{id}").parse().expect("path");
        let cgroup = Cgroup::create(&Hierarchies::detect().expect("cgroups"), &path).expect("cgroup");
        let spec = spec(args, &rootfs, cgroup.path().as_str());
        Self { dir, id, cgroup, spec, seccomp: None, descriptors: Vec::new(), terminal: false }
    }

    /// A script in the bundle, to be executed. It is written by another process, as is all that is executed: who has it
    /// open for writing here may be forked by another test just then, and what is open for writing is not executed.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&path).arg(text);
        let written = write.status().expect("sh");
        assert!(written.success(), "write {}: {written}", path.display());
        path
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// Lets others pass through the bundle, as a container's root in a user namespace has to.
    pub(crate) fn pass_through(&self) {
        for dir in [self.dir.path(), &self.rootfs()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
    }

    /// Gives the root file system and all in it to a user and group of that number.
    pub(crate) fn own_rootfs(&self, id: u32) {
        fn own(path: &Path, id: u32) {
            std::os::unix::fs::lchown(path, Some(id), Some(id)).expect("chown");
            if path.is_dir() {
                fs::read_dir(path).expect("list").for_each(|e| own(&e.expect("entry").path(), id));
            }
        }
        own(&self.rootfs(), id);
    }

    pub(crate) fn mount(&mut self, destination: &str, source: &Path, options: &[&str]) {
        let mount = json!({"destination": destination, "type": "bind", "source": source, "options": options});
        self.spec["mounts"].as_array_mut().expect("mounts").push(mount);
    }

    pub(crate) fn youki(&self) -> LaunchConfig {
        let directories = self.cgroup.v1_directories().into_iter();
        LaunchConfig::Youki(Box::new(YoukiConfig {
            id: self.id.clone(),
            bundle: self.dir.path().to_owned(),
            terminal: self.terminal,
            cgroup: LaunchCgroup {
                v1_directories: directories.map(|(name, directory)| CgroupDirectory { name, directory }).collect(),
                v2_directory: self.cgroup.v2_directory(),
                unified_directory: self.cgroup.unified_directory(),
            },
            seccomp: self.seccomp.as_ref().map(|_| SeccompConfig { program_fd: 5, flags: 0 }),
            user_namespace_fd: None,
            map_root: false,
        }))
    }

    pub(crate) fn launch(&self) -> Launched {
        self.launch_with(&self.youki())
    }

    pub(crate) fn launch_with(&self, config: &LaunchConfig) -> Launched {
        self.start(&memfd::config(&serde_json::to_vec(config).expect("json")).expect("memfd")).hear()
    }

    /// Starts a helper, which reads its configuration from this file.
    pub(crate) fn start(&self, config: &impl AsFd) -> Started {
        let mut spec = self.spec.clone();
        spec["process"]["terminal"] = self.terminal.into();
        fs::write(self.dir.path().join("config.json"), spec.to_string()).expect("config.json");
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("socketpair");
        let null = File::open("/dev/null").expect("null");
        let (stdout, out) = pipe().expect("pipe");
        let (stderr, err) = pipe().expect("pipe");
        let mut spawn = Spawn::new(program(), ["cricket-launch", &self.id]).fd(0, &null).fd(1, &out).fd(2, &err);
        spawn = spawn.fd(REPORT_FD, &theirs).fd(CONFIG_FD, config);
        if let Some(program) = &self.seccomp {
            spawn = spawn.fd(5, program);
        }
        for (number, fd) in (5 + i32::from(self.seccomp.is_some())..).zip(&self.descriptors) {
            spawn = spawn.fd(number, fd);
        }
        let child = spawn.spawn().expect("spawn");
        let launched = Launched { reports: vec![], helper: ExitStatus::Code(0), terminal: None, stdout, stderr };
        Started { child, socket: ours, launched }
    }
}

/// A helper that nobody has heard of yet.
pub(crate) struct Started {
    child: Child,
    socket: OwnedFd,
    launched: Launched,
}

impl Started {
    /// The helper's.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Hears it to its end.
    pub(crate) fn hear(mut self) -> Launched {
        while let Some(report) = self.launched.receive(&self.socket) {
            self.launched.reports.push(report);
        }
        self.launched.helper = self.child.wait().expect("wait");
        self.launched
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.cgroup.kill_all();
        let _ = self.cgroup.wait_empty(Duration::from_secs(5));
        self.cgroup.remove().expect("remove the cgroup");
    }
}

impl Launched {
    /// Reads standard output up to and with `end`.
    pub(crate) fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with(end) && self.stdout.read(&mut byte).expect("stdout") == 1 {
            text.push(byte[0].into());
        }
        text
    }

    fn receive(&mut self, socket: &OwnedFd) -> Option<Report> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; MAX_REPORT];
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let got = recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).expect("recvmsg");
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.terminal = fds.last().or(self.terminal.take());
            }
        }
        (got.bytes > 0).then(|| Report::decode(&bytes[..got.bytes]).expect("report"))
    }

    /// The PID, of a launch that succeeded.
    pub(crate) fn pid(&self) -> i32 {
        let errors: Vec<_> = self.reports.iter().filter_map(|r| r.error.clone()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(self.helper, ExitStatus::Code(0), "no error was reported");
        assert_eq!(self.reports.len(), 1);
        self.reports[0].pid
    }

    /// The failure, of one that failed.
    pub(crate) fn failure(&self) -> Failure {
        assert_eq!(self.helper, ExitStatus::Code(1));
        self.reports.last().and_then(|r| r.error.clone()).expect("a failure")
    }

    /// Waits for the container: its status and output.
    pub(crate) fn finish(mut self) -> (ExitStatus, String, String) {
        let pid = Pid::from_raw(self.pid()).expect("pid");
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).expect("stdout");
        self.stderr.read_to_string(&mut err).expect("stderr");
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).expect("a child").expect("ended");
        (ExitStatus::from_wait_status(status.as_raw()), out, err)
    }

    /// The output of a container that has to end well.
    pub(crate) fn output(self) -> String {
        let (status, out, err) = self.finish();
        assert_eq!(status, ExitStatus::Code(0), "{out}{err}");
        out
    }
}

/// A specification like a kubelet's container gets.
fn spec(args: &[&str], rootfs: &Path, cgroups_path: &str) -> Value {
    let caps = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"];
    let special = ["nosuid", "noexec", "nodev"];
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": rootfs},
        "hostname": "launched",
        "process": {
            "user": {"uid": 0, "gid": 0, "umask": 0o22},
            "args": args,
            "env": ["PATH=/usr/bin:/bin", "HOME=/root", "WITH-DASH=1"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": special},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "rootfsPropagation": "rslave",
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
            "resources": {"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
                {"allow": true, "type": "c", "major": 136, "access": "rwm"},
                {"allow": true, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
            ]},
            "maskedPaths": ["/proc/kcore", "/proc/scsi", "/sys/firmware", "/etc/masked"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}
