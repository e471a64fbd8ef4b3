//! A process in namespaces of its own, on a root file system that has busybox and little else.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cricket_process::Pidfd;

/// First host ID of a container with a user namespace.
pub(crate) const FIRST_ID: u32 = 100_000;

/// Runs inside the new namespaces; `$1` is the root file system.
const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t tmpfs tmpfs dev
mkdir dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
touch dev/null
mount --bind /dev/null dev/null
mkdir -p old
pivot_root . old
cd /
/bin/umount -l /old
echo ready
exec /bin/sleep 1000
"#;

/// The container; it ends with this value.
pub(crate) struct Container {
    outer: Child,
    root: tempfile::TempDir,
    /// Its init.
    pub(crate) pid: i32,
    /// The same.
    pub(crate) pidfd: Pidfd,
}

impl Container {
    /// Starts one whose bounding set lacks `CAP_SYS_TIME`.
    pub(crate) fn start() -> Self {
        Self::start_with(false)
    }

    /// Starts one in a user namespace: IDs from [`FIRST_ID`] on.
    pub(crate) fn start_in_user_namespace() -> Self {
        Self::start_with(true)
    }

    fn start_with(user_namespace: bool) -> Self {
        let root = root_file_system(if user_namespace { FIRST_ID } else { 0 });
        let mut start = Command::new("setpriv");
        start.args(["--bounding-set", "-sys_time", "unshare"]);
        let inner = "exec unshare --mount --pid --net --ipc --uts --fork --kill-child=KILL sh -c \"$2\" sh \"$1\"";
        match user_namespace {
            // Waits until its IDs are mapped, and becomes root in there.
            true => start
                .args(["--user", "--keep-caps", "sh", "-c"])
                .arg(format!("read line; exec setpriv --reuid 0 --regid 0 --clear-groups --ambient-caps=-all --inh-caps=-all sh -c '{inner}' sh \"$@\"")),
            false => start.args(["sh", "-c", inner]),
        };
        start.args(["sh"]).arg(root.path()).arg(SETUP);
        let mut outer = start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start unshare");
        if user_namespace {
            map_ids(outer.id());
        }
        outer.stdin.take().expect("stdin").write_all(b"\n").or_else(ignore_closed).expect("go on");
        let mut line = String::new();
        BufReader::new(outer.stdout.take().expect("stdout")).read_line(&mut line).expect("read");
        assert_eq!(line, "ready\n", "the container did not start");
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let pid = fs::read_to_string(children).expect("children").trim().parse().expect("one child");
        Self { outer, root, pid, pidfd: Pidfd::open(pid).expect("pidfd") }
    }

    /// Its root file system, from the host.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Ends it: waits until its init and everything in its PID namespace has been reaped, here or elsewhere.
    pub(crate) fn kill(&self) {
        self.pidfd.send_signal(libc::SIGKILL).expect("kill");
        while !self.pidfd.wait(Some(Duration::from_millis(5))).expect("wait") {
            reap_commands_that_failed();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.pidfd.send_signal(libc::SIGKILL);
        // Bounded, for a test that failed may not have reaped its command.
        for _ in 0..400 {
            reap_commands_that_failed();
            if self.pidfd.wait(Some(Duration::from_millis(5))).unwrap_or(true) {
                let _ = self.outer.wait();
                return;
            }
        }
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// Commands that could not be executed are children of this process that no report names, and the PID namespace ends
/// only without them. They bear the helper's name still, and have a PID in another namespace.
fn reap_commands_that_failed() {
    let tasks = fs::read_dir("/proc/self/task").expect("tasks");
    for task in tasks.flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
            let failed = line("Name:") == "cricket-exec" && line("NSpid:").split_whitespace().count() > 1;
            if failed && line("State:").starts_with('Z') {
                let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
                let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG);
            }
        }
    }
}

fn ignore_closed(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// Waits for the user namespace and maps 65536 IDs.
fn map_ids(pid: u32) {
    let own = fs::read_link("/proc/self/ns/user").expect("own namespace");
    while fs::read_link(format!("/proc/{pid}/ns/user")).expect("its namespace") == own {
        std::thread::sleep(Duration::from_millis(2));
    }
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), format!("0 {FIRST_ID} 65536\n")).expect(file);
    }
}

fn root_file_system(owner: u32) -> tempfile::TempDir {
    let root = tempfile::Builder::new().prefix("cricket-exec-").tempdir().expect("root");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    for directory in ["bin", "dev", "etc", "proc", "tmp", "home", "home/user", "private"] {
        fs::create_dir(root.path().join(directory)).expect(directory);
    }
    fs::copy("/bin/busybox", root.path().join("bin/busybox")).expect("busybox (install busybox-static)");
    for applet in
        ["cat", "echo", "id", "kill", "ls", "mkdir", "pwd", "sh", "sleep", "stty", "true", "tty", "umount", "env"]
    {
        symlink("busybox", root.path().join("bin").join(applet)).expect(applet);
    }
    fs::write(root.path().join("etc/plain"), "no program\n").expect("write");
    fs::write(root.path().join("bin/broken"), "\u{7f}no program either").expect("write");
    fs::set_permissions(root.path().join("bin/broken"), fs::Permissions::from_mode(0o755)).expect("mode");
    fs::set_permissions(root.path().join("private"), fs::Permissions::from_mode(0o700)).expect("mode");
    chown(root.path().join("private"), Some(owner + 1000), Some(owner)).expect("owner");
    for path in ["", "dev", "proc", "tmp"] {
        chown(root.path().join(path), Some(owner), Some(owner)).expect("owner");
    }
    root
}
