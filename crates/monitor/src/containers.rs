//! Containers: made by a helper, looked after, ended.
//!
//! ```text
//! Making ──log open, helper reported and exited 0──▶ Running ──init ended──▶ Ending ──cgroup empty, output written──▶ Exited
//!    └▶ (failed: forgotten)                                                                   record, reap, event
//! ```
//!
//! What the helper reports is known at once and so never reaped as a stranger, but its end is looked at only after the
//! helper's: an init that could not be started leaves neither a record nor an event.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cricket_process::{ExitStatus, Pidfd};
use cricket_wire::helper::{Failure, Report};
use cricket_wire::{Code, ContainerState, ExitFacts, Exited, Failed, Phase, ResponseKind, Run, Started, Stream};
use rustix::process::{Signal, pidfd_send_signal};

use crate::cgroup;
use crate::jobs::{HelperFds, Purpose, host_failure};
use crate::log::Command;
use crate::log::time::unix_nanos;
use crate::memory::KillCount;
use crate::record;
use crate::supervisor::{Source, Supervisor};
use crate::timers::Timer;
use crate::wait;

/// How long the last output of a container may take.
const DRAIN: Duration = Duration::from_secs(2);
/// When even the log thread does not answer: it is stuck in a write.
const GIVE_UP: Duration = Duration::from_millis(2500);
/// Looks at what is left in the cgroup of an ended container; together two seconds.
const SETTLE_LOOKS: u32 = 110;

/// Where a container is; see the module's diagram.
pub(crate) enum State {
    /// Waits for its log, then for its helper.
    Making(Making),
    /// Its init lives.
    Running { token: u64 },
    /// Its init has ended with this status (`None`: nobody knows) and is not reaped.
    Ending { status: Option<ExitStatus>, looks: u32, draining: bool },
    /// Over.
    Exited(ExitFacts),
}

/// What a container waits for.
pub(crate) enum Making {
    /// The log thread opens the log; the helper is started after that, so that a log that cannot be opened leaves
    /// nothing behind.
    Log(Box<Start>),
    /// Its helper reports it, then starts it.
    Helper,
    /// Another monitor made it: the log, for the request of a client.
    Adoption(u64, u64),
}

/// A helper to be started.
pub(crate) struct Start {
    /// Client and request.
    pub(crate) asked: (u64, u64),
    pub(crate) fds: HelperFds,
}

/// A container.
pub(crate) struct Container {
    pub(crate) run: Run,
    pub(crate) state: State,
    pub(crate) pid: i32,
    pub(crate) pidfd: Option<Arc<OwnedFd>>,
    pub(crate) stdio: Vec<(Stream, Arc<OwnedFd>)>,
    pub(crate) created_at: i64,
    finished_at: i64,
    /// Made by another monitor: not a child.
    adopted: bool,
    /// The log thread has it.
    pub(crate) has_output: bool,
    /// Sessions that are attached.
    pub(crate) sessions: u32,
    /// Its standard input ends with a session that has attached to it.
    pub(crate) stdin_claimed: bool,
    pub(crate) kills: KillCount,
}

impl Container {
    pub(crate) fn new(run: Run, making: Making, has_output: bool) -> Self {
        Self {
            kills: KillCount::of(&run),
            run,
            state: State::Making(making),
            pid: 0,
            pidfd: None,
            stdio: Vec::new(),
            created_at: 0,
            finished_at: 0,
            adopted: false,
            has_output,
            sessions: 0,
            stdin_claimed: false,
        }
    }

    /// One that another monitor made.
    pub(crate) fn adopted(run: Run, asked: (u64, u64), pid: i32, pidfd: Arc<OwnedFd>, created_at: i64) -> Self {
        let making = Making::Adoption(asked.0, asked.1);
        Self { pid, pidfd: Some(pidfd), created_at, adopted: true, ..Self::new(run, making, true) }
    }

    /// Its init is the child with this PID, and not reaped.
    pub(crate) fn is_parent_of(&self, pid: i32) -> bool {
        self.pid == pid && !self.adopted && !matches!(self.state, State::Exited(_))
    }

    /// How its init has ended, whether or not that was heard of.
    pub(crate) fn ended_with(&self) -> Option<ExitStatus> {
        match (&self.state, &self.pidfd) {
            (State::Ending { status, .. }, _) => *status,
            (State::Running { .. }, Some(pidfd)) => wait::look(pidfd).ok()?.map(|ended| ended.status),
            _ => None,
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending { .. })
    }

    pub(crate) fn facts(&self) -> ContainerState {
        let (phase, pid, exit) = match &self.state {
            State::Making(_) => (Phase::Making, 0, None),
            State::Running { .. } | State::Ending { .. } => (Phase::Running, self.pid, None),
            State::Exited(facts) => (Phase::Exited, self.pid, Some(*facts)),
        };
        ContainerState { container_id: self.run.container_id.clone(), phase: phase.into(), pid, exit }
    }

    fn kill_cgroup(&self) -> usize {
        self.run.cgroup.as_ref().map_or(0, |cgroup| cgroup::kill(Path::new(&cgroup.processes)))
    }
}

impl Supervisor {
    /// The helper of a container has reported its init or failed, the latter also after the former.
    pub(crate) fn run_reported(&mut self, job: u64, key: u64, outcome: Result<(Report, Vec<OwnedFd>), Failure>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let opened = outcome.and_then(|(report, fds)| match Pidfd::open(report.pid) {
            Ok(pidfd) => Ok((report, fds, pidfd)),
            Err(error) => Err(host_failure(error.to_line())),
        });
        let (report, mut fds, pidfd) = match opened {
            Ok(opened) => opened,
            Err(failure) => return self.run_failed(job, key, Code::Helper, failure.message.clone(), Some(failure)),
        };
        container.pid = report.pid;
        container.pidfd = Some(Arc::new(pidfd.into()));
        container.created_at = unix_nanos();
        if container.run.tty {
            let Some(master) = fds.pop().filter(|_| report.terminal) else {
                let message = "the helper reported no terminal".to_owned();
                return self.run_failed(job, key, Code::Host, message, None);
            };
            let master = Arc::new(master);
            container.stdio.push((Stream::Terminal, master.clone()));
            let add = rustix::io::ioctl_fionbio(&master, true)
                .map_err(io::Error::from)
                .and_then(|()| self.logs.send(Command::Add { key, stream: Stream::Terminal, fd: master }));
            if let Err(error) = add {
                self.run_failed(job, key, Code::Host, format!("read the terminal: {error}"), None);
            }
        }
    }

    /// The helper of a container has started it: now it is said, and its end (which may be long past) after that.
    pub(crate) fn run_started(&mut self, job: u64, key: u64) {
        let watched = self.watch_init(key);
        let Some(container) = self.containers.get(&key) else { return };
        if let Err(error) = watched {
            let message = format!("watch process {}: {error}", container.pid);
            return self.run_failed(job, key, Code::Host, message, None);
        }
        let streams = container.stdio.iter().map(|(stream, _)| i32::from(*stream)).collect();
        let started = Started { pid: container.pid, streams, created_at: container.created_at };
        let fds = container.pidfd.iter().chain(container.stdio.iter().map(|(_, fd)| fd)).cloned().collect();
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        entry.done = true;
        let (client, request) = (entry.client, entry.request);
        self.retire(job);
        self.answer(client, request, ResponseKind::Started(started), fds);
    }

    /// The log thread has opened a container's log, or not.
    pub(crate) fn log_opened(&mut self, key: u64, error: Option<io::Error>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let State::Making(making) = &mut container.state else { return };
        let (client, request) = match making {
            Making::Log(start) => start.asked,
            Making::Adoption(client, request) => (*client, *request),
            Making::Helper => return,
        };
        if let Some(error) = error {
            let path = container.run.log.as_ref().map(|log| format!("{}/{}", log.directory, log.path));
            self.forget_making(key);
            return self.refuse(client, request, Code::Host, format!("open log {}: {error}", path.unwrap_or_default()));
        }
        if let Making::Log(_) = making {
            return self.start_making(key);
        }
        match self.watch_init(key) {
            Ok(()) => self.answer(client, request, ResponseKind::Done(cricket_wire::Empty {}), Vec::new()),
            Err(error) => {
                self.forget_making(key);
                self.refuse(client, request, Code::Host, format!("watch an adopted process: {error}"));
            }
        }
    }

    /// Starts the helper of a container.
    pub(crate) fn start_making(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let State::Making(making @ Making::Log(_)) = &mut container.state else { return };
        let Making::Log(start) = std::mem::replace(making, Making::Helper) else { return };
        let args = container.run.args.clone();
        let (client, request) = start.asked;
        self.count_kills(key);
        if let Err(error) = self.start_helper(start.asked, Purpose::Run(key), &args, start.fds) {
            self.forget_making(key);
            self.refuse(client, request, Code::Host, format!("start the helper: {error}"));
        }
    }

    /// From now on the container runs, and its end is seen.
    fn watch_init(&mut self, key: u64) -> io::Result<()> {
        let Some(pidfd) = self.containers.get(&key).and_then(|container| container.pidfd.clone()) else {
            return Ok(());
        };
        let token = self.watch(&pidfd, Source::Init(key))?;
        if let Some(container) = self.containers.get_mut(&key) {
            container.state = State::Running { token };
        }
        Ok(())
    }

    /// Nothing comes of a container: what there is of it is killed, the request answered.
    pub(crate) fn run_failed(&mut self, job: u64, key: u64, code: Code, message: String, failure: Option<Failure>) {
        self.give_up_report(job);
        self.forget_making(key);
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.done = true;
            let (client, request) = (entry.client, entry.request);
            self.retire(job);
            let failed = Failed { code: code.into(), message, failure };
            self.answer(client, request, ResponseKind::Failed(failed), Vec::new());
        }
    }

    /// What there is of a container is killed.
    pub(crate) fn forget_making(&mut self, key: u64) {
        self.end_count(key);
        let Some(container) = self.containers.remove(&key) else { return };
        if !container.adopted {
            if let Some(pidfd) = &container.pidfd {
                let _ = pidfd_send_signal(pidfd, Signal::KILL);
            }
            if container.kill_cgroup() > 0 {
                // The first round has ended forking (v1), the second meets what was forked meanwhile.
                container.kill_cgroup();
            }
        }
        if container.has_output {
            let _ = self.logs.send(Command::Finish { key, deadline: Instant::now() });
        }
        self.sweep = true;
    }

    /// A container's init has ended.
    pub(crate) fn init_ended(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let (State::Running { token }, Some(pidfd)) = (&container.state, container.pidfd.clone()) else { return };
        let token = *token;
        // At once: systemd is about to remove the cgroup.
        container.kills.look(&mut self.kills_told);
        let status = match wait::look(&pidfd) {
            Ok(None) => return,
            Ok(Some(ended)) => Some(ended.status),
            // An adopted one: the kernel keeps its status in the pidfd, once its parent has reaped it.
            Err(_) => None,
        };
        container.finished_at = unix_nanos();
        container.state = State::Ending { status, looks: 0, draining: false };
        self.unwatch(&pidfd, token);
        self.container_settle(key);
    }

    /// Kills what an ended init left behind (a host or shared PID namespace), then has the last output written.
    pub(crate) fn container_settle(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let left = container.kill_cgroup();
        let State::Ending { status, looks, draining: draining @ false } = &mut container.state else { return };
        if let (None, Some(pidfd)) = (&status, &container.pidfd) {
            *status = wait::status_of_stranger(pidfd);
        }
        // Its parent may take a moment to reap an adopted one.
        let unknown = status.is_none() && *looks < SETTLE_LOOKS / 4;
        if (left > 0 || unknown) && *looks < SETTLE_LOOKS {
            *looks += 1;
            let delay = Duration::from_millis((1 << (*looks).min(5)).min(20));
            self.timers.after(delay, Timer::ContainerSettle(key));
            return;
        }
        *draining = true;
        if !container.has_output {
            return self.container_finished(key, 0);
        }
        self.timers.after(GIVE_UP, Timer::ContainerGiveUp(key));
        if self.logs.send(Command::Finish { key, deadline: Instant::now() + DRAIN }).is_err() {
            self.container_give_up(key);
        }
    }

    /// The log thread does not answer in time: what is still in the pipes is lost.
    pub(crate) fn container_give_up(&mut self, key: u64) {
        let Some(container) = self.containers.get(&key).filter(|container| container.is_ending()) else { return };
        let outputs = container.stdio.iter().filter(|(stream, _)| *stream != Stream::Stdin);
        let lost = outputs.map(|(_, fd)| rustix::io::ioctl_fionread(fd).unwrap_or(0)).sum();
        self.container_finished(key, lost);
    }

    /// The output is written: the container is over.
    pub(crate) fn container_finished(&mut self, key: u64, bytes_lost: u64) {
        let ending = self.containers.get(&key).map(|container| &container.state);
        let Some(&State::Ending { status, draining: true, .. }) = ending else { return };
        self.settle_count(key, status);
        let Some(container) = self.containers.get_mut(&key) else { return };
        let mut facts = ExitFacts {
            exit_code: status.map_or(255, ExitStatus::shell_code),
            signal: match status {
                Some(ExitStatus::Signal(signal)) => signal.into(),
                _ => 0,
            },
            oom_killed: container.kills.any(),
            created_at: container.created_at,
            finished_at: container.finished_at,
            bytes_lost,
            unknown: status.is_none(),
            unrecorded: false,
        };
        if !container.run.exit_path.is_empty()
            && let Err(error) = record::write(Path::new(&container.run.exit_path), &facts)
        {
            // The file of messages may be on the same full disk; that is no reason to panic.
            let message = format_args!("cricket-monitor: write {}: {error}", container.run.exit_path);
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{message}\n"));
            facts.unrecorded = true;
        }
        if let Some(pidfd) = container.pidfd.take()
            && !container.adopted
        {
            let _ = wait::reap(pidfd.as_fd());
        }
        container.stdio.clear();
        container.state = State::Exited(facts);
        let container_id = container.run.container_id.clone();
        self.end_count(key);
        self.sweep = true;
        self.broadcast(&ResponseKind::Exited(Exited { container_id, facts: Some(facts) }));
    }
}
