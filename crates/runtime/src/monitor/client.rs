//! The requests, one method each.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cricket_model::SandboxId;
use cricket_wire::packet::MAX_FDS;
use cricket_wire::{Adopt, CgroupRef, Empty, Exec, Hello, Hold, Log, Named, RequestKind, ResponseKind, Run, Stream};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::connection::{Answer, Connection, Pending};
use super::spawn;
use super::stuck::{Peer, kill_stuck};
use super::{
    AdoptRequest, Cgroup, ContainerFacts, ContainerHandles, ExecExit, ExecRequest, ExecStart, HeldFd, Helpers,
    LogTarget, MonitorError, MonitorEvent, RunRequest, Started, Supervised,
};

/// What a monitor carries out itself takes milliseconds; one that needs so long is stopped or broken.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A running monitor whose process is stopped or blocked is given this long to greet. One that can run has
/// [`ANSWER_TIMEOUT`]: on a busy host it is worth waiting for, since its containers lose their stdio with it.
const HALTED_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to a pod's monitor. Clones share it; it is closed with the last one.
#[derive(Clone)]
pub struct MonitorClient(Arc<Inner>);

struct Inner {
    connection: Arc<Connection>,
    reader: AbortHandle,
    pid: u32,
    version: u32,
    started_at: i64,
    pidfd: OwnedFd,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

type Result<T> = std::result::Result<T, MonitorError>;
type Events = mpsc::UnboundedSender<MonitorEvent>;

impl MonitorClient {
    /// Starts the pod's monitor with its socket in `pod_dir` and connects to it. A socket that is there is replaced:
    /// callers try [`MonitorClient::connect`] first.
    pub async fn spawn(helpers: &Helpers, pod_dir: &Path, sandbox: &SandboxId, events: Events) -> Result<Self> {
        let pidfd = spawn::start(helpers, pod_dir, sandbox).await?;
        let connected = Self::connect_within(ANSWER_TIMEOUT, pod_dir, sandbox, events).await;
        if connected.is_err() {
            kill_stuck(&pidfd).await?;
        }
        connected
    }

    /// Connects to a monitor that runs; [`MonitorError::NotRunning`] where there is none, [`MonitorError::Stuck`]
    /// where there is one that cannot be used.
    pub async fn connect(pod_dir: &Path, sandbox: &SandboxId, events: Events) -> Result<Self> {
        Self::connect_within(HALTED_TIMEOUT, pod_dir, sandbox, events).await
    }

    async fn connect_within(halted: Duration, pod_dir: &Path, sandbox: &SandboxId, events: Events) -> Result<Self> {
        let socket = spawn::connect(pod_dir)?;
        let peer = Peer::of(&socket);
        let connection = Arc::new(Connection::new(socket)?);
        let reader = tokio::spawn(connection.clone().run(events)).abort_handle();
        let asked = connection.clone();
        let hello = async {
            let kind = RequestKind::Hello(Hello { version: cricket_wire::VERSION });
            let mut pending = asked.request(kind, &[], false).await?;
            match pending.next().await? {
                (ResponseKind::Hello(hello), _) if hello.sandbox_id == sandbox.as_str() => Ok(hello),
                (ResponseKind::Hello(hello), _) => {
                    Err(MonitorError::Unexpected(format!("for another sandbox, {}", hello.sandbox_id)))
                }
                (other, _) => Err(unexpected(&other)),
            }
        };
        tokio::pin!(hello);
        let mut waited = halted;
        let mut answer = tokio::time::timeout(halted, &mut hello).await;
        if answer.is_err() && !peer.as_ref().is_some_and(Peer::is_halted) {
            waited = ANSWER_TIMEOUT;
            answer = tokio::time::timeout(ANSWER_TIMEOUT.saturating_sub(halted), &mut hello).await;
        }
        let late = MonitorError::TimedOut { request: "hello", seconds: waited.as_secs() };
        let hello = match answer.unwrap_or(Err(late)) {
            Ok(hello) => hello,
            Err(error) => {
                reader.abort();
                let Some(peer) = peer else { return Err(error) };
                return Err(match peer.monitor_of(sandbox).await {
                    Some(pidfd) => MonitorError::Stuck { pidfd, source: Box::new(error) },
                    None => error,
                });
            }
        };
        let pidfd = Pid::from_raw(hello.pid)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|errno| MonitorError::io(format!("open monitor {}", hello.pid))(errno.into()))?;
        let (pid, version, started_at) = (hello.pid.unsigned_abs(), hello.version, hello.started_at);
        Ok(Self(Arc::new(Inner { connection, reader, pid, version, started_at, pidfd })))
    }

    /// The monitor's PID.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The version of the protocol that both sides speak.
    pub fn version(&self) -> u32 {
        self.0.version
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    /// The monitor's process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }

    /// When the monitor was started, nanoseconds since 1970.
    pub fn started_at(&self) -> i64 {
        self.0.started_at
    }

    /// Lets the monitor keep descriptors (namespaces above all); the answer says how to name each, in any process
    /// of the same PID namespace. A name that is held already is replaced.
    pub async fn hold(&self, fds: Vec<(String, OwnedFd)>) -> Result<Vec<(String, PathBuf)>> {
        let (names, fds): (Vec<_>, Vec<_>) = fds.into_iter().unzip();
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match self.ask(RequestKind::Hold(Hold { names }), &borrowed).await? {
            (ResponseKind::Held(held), _) => {
                Ok(held.fds.into_iter().map(|fd| (fd.name, self.fd_path(fd.number))).collect())
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Everything that [`MonitorClient::hold`] gave.
    pub async fn held(&self) -> Result<Vec<HeldFd>> {
        match self.ask(RequestKind::Fetch(Empty {}), &[]).await? {
            (ResponseKind::Held(held), fds) if held.fds.len() == fds.len() => Ok(held
                .fds
                .into_iter()
                .zip(fds)
                .map(|(held, fd)| HeldFd { path: self.fd_path(held.number), name: held.name, fd })
                .collect()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn fd_path(&self, number: i32) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{number}", self.0.pid))
    }

    /// Makes a container; returns when its helper has reported. A failure of the helper is [`MonitorError::Helper`].
    /// Dropping the future kills the helper and what it made.
    pub async fn run(&self, request: RunRequest) -> Result<Started> {
        let fds = borrow([&request.helper, &request.config], &request.extra)?;
        let run = supervise(request.container, request.args)?;
        let mut pending = self.0.connection.request(RequestKind::Run(run), &fds, true).await?;
        let (answer, mut fds) = pending.next().await?;
        pending.finish();
        match answer {
            ResponseKind::Started(started) if fds.len() == started.streams.len() + 1 => {
                let stdio = fds.split_off(1);
                let Some(pidfd) = fds.pop() else { return Err(MonitorError::Unexpected("without a pidfd".into())) };
                Ok(Started {
                    pid: started.pid.unsigned_abs(),
                    pidfd,
                    stdio: started.streams().zip(stdio).collect(),
                    created_at: started.created_at,
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Executes a command and returns when its main process has ended (what it left in the background is not waited
    /// for). Dropping the future kills it.
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecExit> {
        let ExecRequest { helper, config, stdin, stdout, stderr, extra, .. } = request;
        let leaves = request.leaves.into_iter().map(text).collect::<Result<_>>()?;
        let timeout_ms = request.timeout.map_or(0, |t| t.as_millis().clamp(1, u128::from(u64::MAX)) as u64);
        let (exec_id, container_id, args) = (request.exec_id, request.container, request.args);
        let silent_start = request.started.is_none();
        let exec = Exec { exec_id, container_id, args, timeout_ms, leaves, silent_start };
        let mut pending = {
            // Closed once sent: the streams have to end with the command.
            let owned = (helper, config, stdin, stdout, stderr, extra);
            let fds = borrow([&owned.0, &owned.1, &owned.2, &owned.3, &owned.4], &owned.5)?;
            self.0.connection.request(RequestKind::Exec(exec), &fds, true).await?
        };
        let mut tell = request.started;
        loop {
            match pending.next().await? {
                (ResponseKind::ExecStarted(started), mut fds) => {
                    if let Some(tell) = tell.take() {
                        let _ = tell.send(ExecStart { pid: started.pid.unsigned_abs(), terminal: fds.pop() });
                    }
                }
                (ResponseKind::ExecEnded(ended), _) => {
                    pending.finish();
                    return Ok(ExecExit {
                        exit_code: ended.exit_code,
                        signal: (ended.signal != 0).then_some(ended.signal),
                        timed_out: ended.timed_out,
                        failure: ended.failure.map(Into::into),
                    });
                }
                (other, _) => return Err(unexpected(&other)),
            }
        }
    }

    /// Opens the container's log by its name again: what was read before is in the old file, everything later goes
    /// to the new one.
    pub async fn reopen_log(&self, container: &str) -> Result<()> {
        self.done(RequestKind::ReopenLog(named(container)), &[]).await
    }

    /// All containers that the monitor knows.
    pub async fn list(&self) -> Result<Vec<ContainerFacts>> {
        match self.ask(RequestKind::List(Empty {}), &[]).await? {
            (ResponseKind::Containers(list), _) => Ok(list.containers.into_iter().map(Into::into).collect()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Duplicates of what the monitor holds for a container.
    pub async fn handles(&self, container: &str) -> Result<ContainerHandles> {
        match self.ask(RequestKind::Handles(named(container)), &[]).await? {
            (ResponseKind::Handles(handles), mut fds) => {
                let streams: Vec<Stream> = handles.streams().collect();
                let pidfds = usize::from(handles.pidfd);
                let created_at = handles.created_at;
                match handles.container {
                    Some(state) if fds.len() == streams.len() + pidfds => {
                        let stdio = streams.into_iter().zip(fds.split_off(pidfds)).collect();
                        Ok(ContainerHandles { facts: state.into(), pidfd: fds.pop(), stdio, created_at })
                    }
                    _ => Err(MonitorError::Unexpected("with too few descriptors".to_owned())),
                }
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Drops what the monitor knows of an exited container; one that it does not know is no error.
    pub async fn forget(&self, container: &str) -> Result<()> {
        self.done(RequestKind::Forget(named(container)), &[]).await
    }

    /// Kills a container that an earlier daemon had begun to make, and has it forgotten; one that the monitor does not
    /// know or that has exited is no error. Refused ([`Code::Conflict`](cricket_wire::Code)) where it runs by now.
    pub async fn abandon(&self, container: &str) -> Result<()> {
        self.done(RequestKind::Abandon(named(container)), &[]).await
    }

    /// Gives the monitor a container whose own monitor died.
    pub async fn adopt(&self, request: AdoptRequest) -> Result<()> {
        let (streams, stdio): (Vec<Stream>, Vec<OwnedFd>) = request.stdio.into_iter().unzip();
        let fds = borrow([&request.pidfd], &stdio)?;
        let adopt = Adopt {
            run: Some(supervise(request.container, Vec::new())?),
            pid: request.pid.cast_signed(),
            created_at: request.created_at,
            streams: streams.into_iter().map(i32::from).collect(),
        };
        self.done(RequestKind::Adopt(adopt), &fds).await
    }

    /// Ends the container's standard input.
    pub async fn close_stdin(&self, container: &str) -> Result<()> {
        self.done(RequestKind::CloseStdin(named(container)), &[]).await
    }

    /// Ends the monitor; refused ([`Code::Conflict`](cricket_wire::Code)) while a container runs.
    pub async fn leave(&self) -> Result<()> {
        self.done(RequestKind::Leave(Empty {}), &[]).await
    }

    async fn ask(&self, kind: RequestKind, fds: &[BorrowedFd<'_>]) -> Result<Answer> {
        let request = name(&kind);
        let answer = async {
            let mut pending: Pending = self.0.connection.request(kind, fds, false).await?;
            pending.next().await
        };
        let late = MonitorError::TimedOut { request, seconds: ANSWER_TIMEOUT.as_secs() };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or(Err(late))
    }

    async fn done(&self, kind: RequestKind, fds: &[BorrowedFd<'_>]) -> Result<()> {
        match self.ask(kind, fds).await? {
            (ResponseKind::Done(_), _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }
}

fn named(container: &str) -> Named {
    Named { container_id: container.to_owned() }
}

/// A request's name in messages.
fn name(kind: &RequestKind) -> &'static str {
    match kind {
        RequestKind::Hello(_) => "hello",
        RequestKind::Run(_) => "run",
        RequestKind::Exec(_) => "exec",
        RequestKind::Cancel(_) => "cancel",
        RequestKind::ReopenLog(_) => "reopen-log",
        RequestKind::List(_) => "list",
        RequestKind::Handles(_) => "handles",
        RequestKind::Forget(_) => "forget",
        RequestKind::Adopt(_) => "adopt",
        RequestKind::CloseStdin(_) => "close-stdin",
        RequestKind::Leave(_) => "leave",
        RequestKind::Hold(_) => "hold",
        RequestKind::Fetch(_) => "held",
        RequestKind::Attach(_) => "attach",
        RequestKind::Abandon(_) => "abandon",
    }
}

pub(super) fn unexpected(kind: &ResponseKind) -> MonitorError {
    MonitorError::Unexpected(format!("{kind:?}").chars().take(200).collect())
}

fn borrow<'f, const N: usize>(first: [&'f OwnedFd; N], then: &'f [OwnedFd]) -> Result<Vec<BorrowedFd<'f>>> {
    let fds: Vec<_> = first.into_iter().chain(then).map(AsFd::as_fd).collect();
    if fds.len() > MAX_FDS {
        return Err(MonitorError::Packet(cricket_wire::packet::PacketError::TooLarge));
    }
    Ok(fds)
}

fn supervise(container: Supervised, args: Vec<String>) -> Result<Run> {
    Ok(Run {
        container_id: container.container,
        args,
        log: container.log.map(log).transpose()?,
        tty: container.tty,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        cgroup: container.cgroup.map(cgroup).transpose()?,
        exit_path: container.exit_path.map(text).transpose()?.unwrap_or_default(),
        attachable: container.attachable,
    })
}

fn text(path: PathBuf) -> Result<String> {
    let refuse = |path: std::ffi::OsString| {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not UTF-8");
        MonitorError::io(format!("name {}", path.display()))(error)
    };
    path.into_os_string().into_string().map_err(refuse)
}

fn log(target: LogTarget) -> Result<Log> {
    Ok(Log { directory: text(target.directory)?, path: text(target.path)?, max_line: target.max_line })
}

fn cgroup(cgroup: Cgroup) -> Result<CgroupRef> {
    Ok(CgroupRef {
        processes: text(cgroup.processes)?,
        memory: cgroup.memory.map(text).transpose()?.unwrap_or_default(),
    })
}
