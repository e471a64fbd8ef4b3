//! Commands in containers: each lives until its main process ends, its time is over or its connection ends.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cricket_process::{ExitStatus, Pidfd};
use cricket_wire::helper::{Failure, Report};
use cricket_wire::{ExecEnded, ExecStarted, ResponseKind};
use rustix::process::{Signal, pidfd_send_signal};

use crate::cgroup;
use crate::jobs::{Purpose, host_failure};
use crate::supervisor::{Source, Supervisor};
use crate::timers::{Timer, TimerKey};
use crate::wait;

/// Looks at a killed exec that has not ended, 20 ms apart: then it is answered all the same.
const KILL_LOOKS: u32 = 100;
/// Attempts to remove an ended exec's cgroups, each after twice the time: the last after half a second.
const REMOVE_LOOKS: u32 = 10;

/// One exec.
#[derive(Default)]
pub(crate) struct ExecJob {
    leaves: Vec<PathBuf>,
    silent_start: bool,
    main: Option<Main>,
    timeout: Option<TimerKey>,
    timed_out: bool,
    killed: bool,
    answered: bool,
    looks: u32,
}

struct Main {
    pid: i32,
    pidfd: Arc<OwnedFd>,
    token: u64,
}

impl ExecJob {
    pub(crate) fn new(leaves: Vec<PathBuf>, silent_start: bool) -> Self {
        Self { leaves, silent_start, ..Self::default() }
    }

    pub(crate) fn main_pid(&self) -> Option<i32> {
        self.main.as_ref().map(|main| main.pid)
    }

    fn kill(&self) -> usize {
        if let Some(main) = &self.main {
            let _ = pidfd_send_signal(&main.pidfd, Signal::KILL);
        }
        self.leaves.iter().map(|leaf| cgroup::kill(leaf)).sum()
    }
}

impl Supervisor {
    fn exec(&mut self, key: u64) -> Option<&mut ExecJob> {
        match &mut self.jobs.get_mut(&key)?.purpose {
            Purpose::Exec(exec) => Some(exec),
            Purpose::Run(_) => None,
        }
    }

    /// Starts the clock of an exec; 0: it has no end.
    pub(crate) fn exec_clock(&mut self, key: u64, timeout_ms: u64) {
        if timeout_ms > 0 {
            let timer = self.timers.after(Duration::from_millis(timeout_ms), Timer::ExecTimeout(key));
            if let Some(exec) = self.exec(key) {
                exec.timeout = timer;
            }
        }
    }

    /// The helper of an exec has reported or failed.
    pub(crate) fn exec_reported(&mut self, key: u64, outcome: Result<(Report, Vec<OwnedFd>), Failure>) {
        let started = outcome.and_then(|(report, fds)| {
            let pidfd = Pidfd::open(report.pid).map_err(|error| host_failure(error.to_line()))?;
            let pidfd = Arc::new(OwnedFd::from(pidfd));
            let token =
                self.watch(&pidfd, Source::Main(key)).map_err(|error| host_failure(format!("watch: {error}")))?;
            Ok((Main { pid: report.pid, pidfd, token }, report.terminal, fds))
        });
        let (main, terminal, mut fds) = match started {
            Ok(started) => started,
            Err(failure) => return self.exec_answer(key, None, Some(failure)),
        };
        let event = ExecStarted { pid: main.pid, terminal };
        fds.truncate(usize::from(terminal));
        let fds = fds.into_iter().map(Arc::new).collect();
        let Some(exec) = self.exec(key) else { return };
        exec.main = Some(main);
        if exec.killed {
            exec.kill();
        }
        if exec.silent_start {
            return;
        }
        let Some((client, request)) = self.jobs.get(&key).map(|job| (job.client, job.request)) else { return };
        self.answer(client, request, ResponseKind::ExecStarted(event), fds);
    }

    /// The main process of an exec has ended.
    pub(crate) fn exec_ended(&mut self, key: u64) {
        let helper_lives = self.jobs.get(&key).is_some_and(|job| job.helper_pid().is_some());
        let Some(main) = self.exec(key).and_then(|exec| exec.main.as_ref()) else { return };
        let status = match wait::reap(&main.pidfd) {
            Ok(None) => return,
            Ok(Some(ended)) => Some(ended.status),
            // It may be the helper's child until the helper ends: it is looked at again then.
            Err(_) if helper_lives => {
                let (pidfd, token) = (main.pidfd.clone(), main.token);
                return self.unwatch(pidfd.as_fd(), token);
            }
            Err(_) => None,
        };
        if let Some(main) = self.exec(key).and_then(|exec| exec.main.take()) {
            self.unwatch(main.pidfd.as_fd(), main.token);
        }
        let failure = status.is_none().then(|| host_failure("the command is no child of the monitor".to_owned()));
        self.exec_answer(key, status, failure);
    }

    fn exec_answer(&mut self, key: u64, status: Option<ExitStatus>, failure: Option<Failure>) {
        let Some(exec) = self.exec(key) else { return };
        let answered = std::mem::replace(&mut exec.answered, true);
        let (timed_out, timer) = (exec.timed_out, exec.timeout.take());
        // A helper or command that was killed here did not fail.
        let killed = exec.killed && !matches!(status, Some(ExitStatus::Code(_)));
        let status = if killed { status.or(Some(ExitStatus::Signal(Signal::KILL.as_raw() as u8))) } else { status };
        let failure = failure.filter(|_| !killed);
        self.timers.drop(timer);
        if !answered {
            let ended = ExecEnded {
                exit_code: match (&failure, status) {
                    (Some(failure), _) if failure.shell_status != 0 => failure.shell_status,
                    (_, Some(status)) => status.shell_code(),
                    (_, None) => 255,
                },
                signal: match status {
                    Some(ExitStatus::Signal(signal)) => signal.into(),
                    _ => 0,
                },
                timed_out,
                failure,
            };
            if let Some((client, request)) = self.jobs.get(&key).map(|job| (job.client, job.request)) {
                self.answer(client, request, ResponseKind::ExecEnded(ended), Vec::new());
            }
            if let Some(exec) = self.exec(key) {
                exec.looks = 0;
            }
        }
        self.exec_settle(key);
    }

    /// The time of an exec is over.
    pub(crate) fn exec_timeout(&mut self, key: u64) {
        if let Some(exec) = self.exec(key).filter(|exec| !exec.answered) {
            exec.timed_out = true;
            exec.timeout = None;
            self.exec_kill(key);
        }
    }

    /// Kills an exec, its helper and all that is in its cgroups; the end is then seen as any other.
    pub(crate) fn exec_kill(&mut self, key: u64) {
        if let Some(job) = self.jobs.get(&key).filter(|job| job.is_pending()) {
            job.kill_helper();
        }
        if let Some(exec) = self.exec(key).filter(|exec| !exec.answered) {
            exec.killed = true;
            exec.looks = 0;
            self.exec_settle(key);
        }
    }

    /// Kills again what should have ended; once it has, removes the cgroups.
    pub(crate) fn exec_settle(&mut self, key: u64) {
        let Some(exec) = self.exec(key) else { return };
        if exec.killed {
            exec.kill();
        }
        exec.looks += 1;
        if !exec.answered {
            if exec.looks > KILL_LOOKS {
                // It hangs in the kernel: whoever asked is not made to wait for that.
                return self.exec_answer(key, None, None);
            }
            self.timers.after(Duration::from_millis(20), Timer::ExecSettle(key));
            return;
        }
        // What it left in the background lives on (and ends with the container), as it would after any shell.
        exec.leaves.retain(|leaf| !cgroup::remove(leaf));
        if exec.leaves.is_empty() && exec.main.is_none() || exec.looks > REMOVE_LOOKS {
            if let Some(main) = exec.main.take() {
                self.unwatch(main.pidfd.as_fd(), main.token);
            }
            if let Some(job) = self.jobs.get_mut(&key) {
                job.done = true;
            }
            self.retire(key);
        } else {
            let delay = Duration::from_millis(1 << exec.looks.min(9));
            self.timers.after(delay, Timer::ExecSettle(key));
        }
    }

    /// A connection has ended: so do its execs. Containers that it asked for are made all the same.
    pub(crate) fn abandon_execs(&mut self, client: u64) {
        let of_client = |job: &crate::jobs::Job| job.client == client && matches!(job.purpose, Purpose::Exec(_));
        let execs: Vec<u64> = self.jobs.iter().filter(|(_, job)| of_client(job)).map(|(key, _)| *key).collect();
        for key in execs {
            self.exec_kill(key);
        }
    }
}
