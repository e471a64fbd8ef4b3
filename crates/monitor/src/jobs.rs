//! Helpers at work: one job for each `Run` and `Exec`, from its request to the end of its helper.
//!
//! ```text
//! pending ──report──▶ reported ──helper exits 0──▶ started, gone (a Run)
//!    │                    │    └▶ stays until the command ends (an Exec)
//!    │                    └ a Run: second report, or the helper ends otherwise ▶ failed
//!    └ the helper ends without a report ▶ failed
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cricket_process::{ExitStatus, Pidfd, Spawn};
use cricket_wire::helper::{Blame, CONFIG_FD, FIRST_EXTRA_FD, Failure, MAX_REPORT, NO_PROCESS, REPORT_FD, Report};
use cricket_wire::packet::{self, PacketError};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, pidfd_send_signal};

use crate::execs::ExecJob;
use crate::supervisor::{Source, Supervisor};
use crate::wait;

/// What a helper is for.
pub(crate) enum Purpose {
    /// The container with this key.
    Run(u64),
    /// A command.
    Exec(Box<ExecJob>),
}

/// One helper and what comes of it.
pub(crate) struct Job {
    pub(crate) client: u64,
    pub(crate) request: u64,
    pub(crate) purpose: Purpose,
    helper: Option<Helper>,
    /// Until nothing more is to be heard from the helper.
    report: Option<(OwnedFd, u64)>,
    /// A `Run`'s process is known; its helper goes on to start it.
    reported: bool,
    /// Nothing is left to do but to reap the helper.
    pub(crate) done: bool,
}

struct Helper {
    pid: i32,
    pidfd: Pidfd,
    token: u64,
}

impl Job {
    /// Its helper may still report a process.
    pub(crate) fn is_pending(&self) -> bool {
        self.report.is_some() && !self.reported
    }

    pub(crate) fn helper_pid(&self) -> Option<i32> {
        self.helper.as_ref().map(|helper| helper.pid)
    }

    pub(crate) fn main_pid(&self) -> Option<i32> {
        match &self.purpose {
            Purpose::Exec(exec) => exec.main_pid(),
            Purpose::Run(_) => None,
        }
    }

    /// Kills the helper if it has not ended.
    pub(crate) fn kill_helper(&self) {
        if let Some(helper) = &self.helper {
            let _ = pidfd_send_signal(&helper.pidfd, Signal::KILL);
        }
    }
}

/// The descriptors of a helper.
pub(crate) struct HelperFds {
    pub(crate) stdio: [Arc<OwnedFd>; 3],
    pub(crate) executable: OwnedFd,
    pub(crate) config: OwnedFd,
    pub(crate) extra: Vec<OwnedFd>,
}

impl Supervisor {
    /// Starts a helper; what it reports comes to [`Supervisor::run_reported`] or [`Supervisor::exec_reported`].
    pub(crate) fn start_helper(
        &mut self,
        (client, request): (u64, u64),
        purpose: Purpose,
        args: &[String],
        fds: HelperFds,
    ) -> io::Result<u64> {
        let flags = SocketFlags::CLOEXEC;
        let (report, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::io::ioctl_fionbio(&report, true)?;
        let mut spawn = Spawn::new(&fds.executable, args)
            .fd(0, &*fds.stdio[0])
            .fd(1, &*fds.stdio[1])
            .fd(2, &*fds.stdio[2])
            .fd(REPORT_FD, &theirs)
            .fd(CONFIG_FD, &fds.config);
        for (number, fd) in (FIRST_EXTRA_FD..).zip(&fds.extra) {
            spawn = spawn.fd(number, fd);
        }
        let child = spawn.spawn().map_err(|error| io::Error::other(error.to_line()))?;
        let key = self.next();
        // Without its descriptors watched the job would never end: it is not begun.
        let watched = self
            .watch(&child.pidfd, Source::Helper(key))
            .and_then(|helper_token| Ok((helper_token, self.watch(&report, Source::Report(key))?)));
        let (helper_token, report_token) = match watched {
            Ok(tokens) => tokens,
            Err(error) => {
                let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
                self.sweep = true;
                return Err(error);
            }
        };
        let helper = Helper { pid: child.pid, pidfd: child.pidfd, token: helper_token };
        let report = Some((report, report_token));
        let job = Job { client, request, purpose, helper: Some(helper), report, reported: false, done: false };
        self.jobs.insert(key, job);
        Ok(key)
    }

    /// The report socket is readable: there is a report, or the helper has closed it. True: there was a report, and
    /// another may follow.
    pub(crate) fn job_report(&mut self, key: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&key) else { return false };
        let Some((socket, _)) = &job.report else { return false };
        match packet::receive_sized::<Report>(socket, MAX_REPORT) {
            Ok((report, fds)) => {
                let outcome = match report.error.clone() {
                    Some(failure) => Err(failure),
                    None if job.reported => Err(host_failure("the helper reported a second process".to_owned())),
                    None if report.pid > 1 => Ok((report, fds)),
                    None if report.pid == NO_PROCESS => {
                        Err(host_failure("the helper carried out an order that makes no process".to_owned()))
                    }
                    None => Err(host_failure(format!("the helper reported process {}", report.pid))),
                };
                if outcome.is_ok() && matches!(job.purpose, Purpose::Run(_)) {
                    job.reported = true;
                    self.sweep = true;
                } else {
                    self.close_report(key);
                }
                self.reported(key, outcome);
                true
            }
            Err(PacketError::WouldBlock) => false,
            Err(PacketError::Closed) => {
                if job.reported {
                    // It has no more to say; how it ends says whether it has started the container.
                    self.close_report(key);
                } else if job.helper.is_some() {
                    // How it ended is the better answer, and comes in a moment.
                    job.kill_helper();
                    self.mute_report(key);
                } else {
                    self.report_missing(key, None);
                }
                false
            }
            Err(error) => {
                job.kill_helper();
                self.close_report(key);
                self.reported(key, Err(host_failure(format!("the helper's report cannot be read: {error}"))));
                false
            }
        }
    }

    /// A closed socket is readable for ever: it is not looked at any more, but the job stays pending.
    fn mute_report(&mut self, key: u64) {
        let Some((socket, token)) = self.jobs.get_mut(&key).and_then(|job| job.report.take()) else { return };
        self.unwatch(&socket, token);
        if let Some(job) = self.jobs.get_mut(&key) {
            job.report = Some((socket, token));
        }
    }

    fn close_report(&mut self, key: u64) {
        let Some((socket, token)) = self.jobs.get_mut(&key).and_then(|job| job.report.take()) else { return };
        self.unwatch(&socket, token);
        self.sweep = true;
    }

    /// The helper has ended.
    pub(crate) fn helper_ended(&mut self, key: u64) {
        // Reports may be there that were not read yet.
        while self.job_report(key) {}
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let Some(helper) = &job.helper else { return };
        let status = match wait::reap(&helper.pidfd) {
            Ok(None) => return,
            Ok(Some(ended)) => Some(ended.status),
            Err(_) => None,
        };
        if let Some(helper) = job.helper.take() {
            self.unwatch(helper.pidfd.as_fd(), helper.token);
        }
        self.report_missing(key, status);
        self.close_report(key);
        self.start_decided(key, status);
        self.exec_ended(key);
        self.retire(key);
    }

    fn report_missing(&mut self, key: u64, status: Option<ExitStatus>) {
        if !self.jobs.get(&key).is_some_and(Job::is_pending) {
            return;
        }
        self.close_report(key);
        self.reported(key, Err(host_failure(format!("the helper {} without a report", how(status)))));
    }

    /// A container that was made is started exactly if its helper exited with 0.
    fn start_decided(&mut self, key: u64, status: Option<ExitStatus>) {
        let Some(job) = self.jobs.get(&key).filter(|job| job.reported && !job.done) else { return };
        let Purpose::Run(container) = job.purpose else { return };
        if status == Some(ExitStatus::Code(0)) {
            return self.run_started(key, container);
        }
        let message = format!("the helper {} before the container was started", how(status));
        self.reported(key, Err(host_failure(message)));
    }

    /// Ends the wait for a report that nobody needs any more.
    pub(crate) fn give_up_report(&mut self, key: u64) {
        if let Some(job) = self.jobs.get(&key) {
            job.kill_helper();
            // It may have reported all the same: then there is a process that nobody else will kill.
            let late = job.report.as_ref().map(|(socket, _)| packet::receive_sized::<Report>(socket, MAX_REPORT));
            if let Some(Ok((report, _))) = late
                && report.pid > 1
                && let Ok(pidfd) = Pidfd::open(report.pid)
            {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
        self.close_report(key);
    }

    fn reported(&mut self, key: u64, outcome: Result<(Report, Vec<OwnedFd>), Failure>) {
        match self.jobs.get(&key).map(|job| &job.purpose) {
            Some(Purpose::Run(container)) => self.run_reported(key, *container, outcome),
            Some(Purpose::Exec(_)) => self.exec_reported(key, outcome),
            None => {}
        }
    }

    /// Forgets a job that is done, once its helper is reaped.
    pub(crate) fn retire(&mut self, key: u64) {
        if self.jobs.get(&key).is_some_and(|job| job.done && job.helper.is_none() && job.report.is_none()) {
            self.jobs.remove(&key);
        }
    }
}

fn how(status: Option<ExitStatus>) -> String {
    match status {
        Some(ExitStatus::Code(code)) => format!("exited with status {code}"),
        Some(ExitStatus::Signal(signal)) => format!("was killed by signal {signal}"),
        None => "ended".to_owned(),
    }
}

/// A failure that is not the command's.
pub(crate) fn host_failure(message: String) -> Failure {
    Failure { message, blame: Blame::Host.into(), shell_status: 0 }
}
