//! One pod's monitor for a test, and what tests ask of it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cricket_model::SandboxId;
use cricket_process::memfd;
use cricket_runtime::monitor::{
    Cgroup, ExecRequest, ExitFacts, Helpers, LogTarget, MonitorClient, MonitorError, MonitorEvent, RunRequest, Started,
    Supervised,
};
use tokio::sync::mpsc;

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Pod {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) sandbox: SandboxId,
    pub(crate) helpers: Helpers,
    pub(crate) client: MonitorClient,
    pub(crate) events: mpsc::UnboundedReceiver<MonitorEvent>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        kill(self.client.pid());
    }
}

pub(crate) fn kill(pid: u32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

pub(crate) fn exists(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is not alive, only not reaped yet.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// The PIDs of its children, ended ones as well.
pub(crate) fn children(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children")
}

fn helpers() -> Helpers {
    let monitor = Path::new(env!("CARGO_BIN_EXE_cricket-monitor"));
    let helper = monitor.with_file_name("examples").join("helper");
    let open = |path: &Path| File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let seal = |path: &Path, name: &str| memfd::seal(open(path), name).expect("seal");
    Helpers { monitor: seal(monitor, "monitor"), launch: seal(&helper, "helper"), exec: seal(&helper, "helper") }
}

impl Pod {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("cricket-monitor-").tempdir().expect("directory");
        // Longer than a socket's name may be.
        let sandbox = SandboxId::generate();
        let pod_dir = dir.path().join(sandbox.as_str()).join(sandbox.as_str());
        std::fs::create_dir_all(&pod_dir).expect("mkdir");
        let helpers = helpers();
        let (sender, events) = mpsc::unbounded_channel();
        let client = MonitorClient::spawn(&helpers, &pod_dir, &sandbox, sender).await.expect("spawn");
        Self { dir, sandbox, helpers, client, events }
    }

    pub(crate) fn pod_dir(&self) -> PathBuf {
        self.dir.path().join(self.sandbox.as_str()).join(self.sandbox.as_str())
    }

    /// As a daemon that was started again.
    pub(crate) async fn reconnect(&mut self) -> Result<(), MonitorError> {
        let (sender, events) = mpsc::unbounded_channel();
        self.client = MonitorClient::connect(&self.pod_dir(), &self.sandbox, sender).await?;
        self.events = events;
        Ok(())
    }

    /// A connection without the client.
    pub(crate) fn socket(&self) -> OwnedFd {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
        let directory = File::open(self.pod_dir()).expect("open");
        let name = format!("/proc/self/fd/{}/monitor.sock", std::os::fd::AsRawFd::as_raw_fd(&directory));
        let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("socket");
        connect(&socket, &SocketAddrUnix::new(name).expect("address")).expect("connect");
        socket
    }

    /// A new monitor in the place of a dead one.
    pub(crate) async fn replace(&mut self) {
        let (sender, events) = mpsc::unbounded_channel();
        let spawned = MonitorClient::spawn(&self.helpers, &self.pod_dir(), &self.sandbox, sender).await;
        self.client = spawned.expect("spawn a replacement");
        self.events = events;
    }

    pub(crate) fn request(&self, container: &str, script: &str, words: &[&str]) -> RunRequest {
        RunRequest {
            container: Supervised {
                container: container.to_owned(),
                log: Some(LogTarget {
                    directory: self.log_dir(),
                    path: format!("{container}/0.log").into(),
                    max_line: 0,
                }),
                tty: words.contains(&"tty"),
                exit_path: Some(self.dir.path().join(format!("{container}.exit"))),
                ..Supervised::default()
            },
            helper: self.helpers.launch().expect("helper"),
            args: ["helper"].iter().chain(words).map(|word| (*word).to_owned()).collect(),
            config: config(script),
            extra: vec![],
        }
    }

    pub(crate) async fn run(&self, container: &str, script: &str) -> Started {
        self.client.run(self.request(container, script, &[])).await.expect("run")
    }

    pub(crate) fn exec(&self, script: &str, words: &[&str], out: OwnedFd) -> ExecRequest {
        let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").expect("null"));
        ExecRequest {
            exec_id: "e".to_owned(),
            container: "c".to_owned(),
            helper: self.helpers.exec().expect("helper"),
            args: ["helper"].iter().chain(words).map(|word| (*word).to_owned()).collect(),
            config: config(script),
            stdin: null(),
            stdout: out,
            stderr: null(),
            extra: vec![],
            timeout: None,
            leaves: vec![],
            started: None,
        }
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    pub(crate) fn log_file(&self, container: &str) -> PathBuf {
        self.log_dir().join(container).join("0.log")
    }

    /// The next exit that is told.
    pub(crate) async fn exit(&mut self) -> (String, ExitFacts) {
        match tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time") {
            Some(MonitorEvent::Exited { container, facts }) => (container, facts),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn config(script: &str) -> OwnedFd {
    memfd::config(script.as_bytes()).expect("config")
}

/// The contents of one stream of a log, put together.
pub(crate) fn content(log: &[u8], stream: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").expect("every entry ends");
        let parts: Vec<_> = line.splitn(4, |byte| *byte == b' ').collect();
        assert_eq!(parts.len(), 4, "{:?}", String::from_utf8_lossy(line));
        assert!(parts[3].len() <= 16 * 1024 && parts[0].ends_with(b"Z"));
        if parts[1] == stream.as_bytes() {
            bytes.extend_from_slice(parts[3]);
            if parts[2] == b"F" {
                bytes.push(b'\n');
            }
        }
    }
    bytes
}

/// Waits for something that no event tells of.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Says that a test cannot be carried out here; libtest shows only what is written past it.
pub(crate) fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: {name}: {why}\n"));
}

/// A cgroup of the test's own in the hierarchy where processes are killed: v1 `pids`, or the unified one.
pub(crate) struct TestCgroup(pub(crate) PathBuf);

impl TestCgroup {
    pub(crate) fn new(sandbox: &SandboxId) -> Self {
        Self::below(["/sys/fs/cgroup/pids", "/sys/fs/cgroup"], sandbox)
    }

    /// One with little memory, in the hierarchy that limits it.
    pub(crate) fn with_memory(sandbox: &SandboxId) -> Self {
        let cgroup = Self::below(["/sys/fs/cgroup/memory", "/sys/fs/cgroup"], sandbox);
        cgroup.limit_memory();
        cgroup
    }

    pub(crate) fn limit_memory(&self) {
        let limit = |name: &str, value: &str| std::fs::write(self.0.join(name), value);
        let limited = limit("memory.max", "20000000").or_else(|_| limit("memory.limit_in_bytes", "20000000"));
        limited.expect("a memory controller");
        // Where there is swap.
        let _ = limit("memory.swap.max", "0");
    }

    fn below(roots: [&str; 2], sandbox: &SandboxId) -> Self {
        let mut roots = roots.into_iter().map(Path::new);
        let root = roots.find(|dir| dir.join("cgroup.procs").exists()).expect("a cgroup hierarchy");
        Self::made(root.join(format!("cricket-monitor-{}", sandbox.short())))
    }

    pub(crate) fn made(path: PathBuf) -> Self {
        std::fs::create_dir(&path).expect("make a cgroup");
        Self(path)
    }

    pub(crate) fn join(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }

    pub(crate) fn cgroup(&self) -> Cgroup {
        let counts = |name| self.0.join(name).exists();
        let memory = (counts("memory.events") || counts("memory.oom_control")).then(|| self.0.clone());
        Cgroup { processes: self.0.clone(), memory }
    }

    /// Ends all that is in it, and it.
    pub(crate) fn remove(&self) {
        for pid in std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            kill(pid.parse().unwrap_or_default());
        }
        let begin = Instant::now();
        while self.0.exists() && std::fs::remove_dir(&self.0).is_err() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_to_string(self.0.join("cgroup.procs")).is_ok_and(|procs| procs.is_empty())
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        self.remove();
    }
}
