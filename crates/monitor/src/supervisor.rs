//! The main thread: one epoll, what is behind its tokens, and the order in which things are looked at.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::clients::Client;
use crate::containers::Container;
use crate::jobs::Job;
use crate::log::time::unix_nanos;
use crate::log::{LogThread, Note};
use crate::timers::{Timer, Timers};
use crate::wait;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// What a token of the epoll set stands for; the numbers are keys of the supervisor's maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The memory of a container has something to tell. First in the order: the cgroup may be about to go.
    Memory(u64),
    /// A helper may have reported. Before what follows: what it reports must be known before children are reaped.
    Report(u64),
    /// A helper has ended.
    Helper(u64),
    /// A container's init has ended.
    Init(u64),
    /// An exec's main process has ended.
    Main(u64),
    /// Some child has ended.
    Signals,
    /// The log thread has something to say.
    Logs,
    /// A connection is readable, or writable again.
    Client(u64),
    /// Somebody connects.
    Listener,
}

/// Everything that a monitor knows.
pub(crate) struct Supervisor {
    pub(crate) sandbox_id: String,
    pub(crate) started_at: i64,
    epoll: OwnedFd,
    pub(crate) listener: OwnedFd,
    signals: OwnedFd,
    sources: BTreeMap<u64, Source>,
    serial: u64,
    pub(crate) clients: BTreeMap<u64, Client>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    /// In the order they were made.
    pub(crate) containers: BTreeMap<u64, Container>,
    pub(crate) held: Vec<(String, Arc<OwnedFd>)>,
    pub(crate) logs: LogThread,
    /// Requests that the log thread will have carried out: the client and the request's id.
    pub(crate) tickets: BTreeMap<u64, (u64, u64)>,
    pub(crate) timers: Timers,
    /// Kills for want of memory that containers' own counts have shown.
    pub(crate) kills_told: u64,
    pub(crate) sweep: bool,
    pub(crate) leaving: bool,
}

impl Supervisor {
    pub(crate) fn new(sandbox_id: String, listener: OwnedFd, signals: OwnedFd) -> io::Result<Self> {
        // Who listens last is the peer of those who connect: so a daemon finds this process even when it does not answer.
        rustix::net::listen(&listener, BACKLOG)?;
        rustix::io::ioctl_fionbio(&listener, true)?;
        let flags = rustix::io::fcntl_getfd(&listener)? | rustix::io::FdFlags::CLOEXEC;
        rustix::io::fcntl_setfd(&listener, flags)?;
        let mut supervisor = Self {
            sandbox_id,
            started_at: unix_nanos(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            listener,
            signals,
            sources: BTreeMap::new(),
            serial: 0,
            clients: BTreeMap::new(),
            jobs: BTreeMap::new(),
            containers: BTreeMap::new(),
            held: Vec::new(),
            logs: LogThread::new()?,
            tickets: BTreeMap::new(),
            timers: Timers::default(),
            kills_told: 0,
            sweep: false,
            leaving: false,
        };
        for source in [Source::Listener, Source::Signals, Source::Logs] {
            let token = supervisor.next();
            let fd = match source {
                Source::Listener => supervisor.listener.as_fd(),
                Source::Signals => supervisor.signals.as_fd(),
                _ => supervisor.logs.wake().as_fd(),
            };
            epoll::add(&supervisor.epoll, fd, EventData::new_u64(token), EventFlags::IN)?;
            supervisor.sources.insert(token, source);
        }
        Ok(supervisor)
    }

    /// A number that was never given before.
    pub(crate) fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Waits for `fd` to be readable; the answer names it for [`Supervisor::unwatch`].
    pub(crate) fn watch(&mut self, fd: impl AsFd, source: Source) -> io::Result<u64> {
        self.watch_for(fd, source, EventFlags::IN)
    }

    /// Waits for `fd` to be ready in another way than to be read.
    pub(crate) fn watch_for(&mut self, fd: impl AsFd, source: Source, flags: EventFlags) -> io::Result<u64> {
        let token = self.next();
        epoll::add(&self.epoll, fd, EventData::new_u64(token), flags)?;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Waits for `fd` to be writable as well, or no more.
    pub(crate) fn watch_writable(&self, fd: impl AsFd, token: u64, on: bool) {
        let flags = if on { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        let _ = epoll::modify(&self.epoll, fd, EventData::new_u64(token), flags);
    }

    /// Has to be called before the descriptor is closed: others may have duplicates, which keep it in the set.
    pub(crate) fn unwatch(&mut self, fd: impl AsFd, token: u64) {
        let _ = epoll::delete(&self.epoll, fd);
        self.sources.remove(&token);
    }

    /// Serves until a daemon asks it to leave.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(32);
        loop {
            let timeout = self.timers.next().and_then(|left| Timespec::try_from(left).ok());
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let mut ready: Vec<(Source, u64)> = events
                .iter()
                .filter_map(|event| Some((*self.sources.get(&event.data.u64())?, event.data.u64())))
                .collect();
            ready.sort_unstable();
            for (source, token) in ready {
                // An earlier one of the same round may have ended it.
                if self.sources.contains_key(&token) {
                    self.handle(source);
                }
            }
            while let Some(timer) = self.timers.due() {
                match timer {
                    Timer::ExecTimeout(job) => self.exec_timeout(job),
                    Timer::ExecSettle(job) => self.exec_settle(job),
                    Timer::ContainerSettle(key) => self.container_settle(key),
                    Timer::ContainerGiveUp(key) => self.container_give_up(key),
                }
            }
            if self.sweep {
                self.sweep();
            }
            if self.leaving && self.clients.values().all(Client::is_flushed) {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => {
                // Signals of one number are merged: however many are read, all children are looked at.
                let mut buffer = [0; 512];
                while matches!(rustix::io::read(&self.signals, &mut buffer), Ok(count) if count > 0) {}
                self.sweep = true;
            }
            Source::Logs => {
                for note in self.logs.notes() {
                    match note {
                        Note::Opened { key, error } => self.log_opened(key, error),
                        Note::Reopened { ticket, error } => self.log_reopened(ticket, error),
                        Note::Finished { key, lost } => self.container_finished(key, lost),
                        Note::Detached { key, ticket, reason } => self.detached(key, ticket, reason),
                        Note::InputEnded { key } => self.input_ended(key),
                    }
                }
            }
            Source::Memory(key) => self.memory_changed(key),
            Source::Client(client) => self.client_ready(client),
            Source::Report(job) => {
                self.job_report(job);
            }
            Source::Helper(job) => self.helper_ended(job),
            Source::Init(key) => self.init_ended(key),
            Source::Main(job) => self.exec_ended(job),
        }
    }

    /// Reaps children that nobody waits for: orphans of the containers, intermediate processes of helpers.
    ///
    /// Not while a helper has still to report, since its init would be among them. An init whose record is not written
    /// yet hides the others; they are looked at when it is reaped.
    fn sweep(&mut self) {
        if self.jobs.values().any(Job::is_pending) {
            return;
        }
        self.sweep = false;
        let mut before = 0;
        while let Ok(Some(ended)) = wait::look_any() {
            let pid = ended.pid;
            // Whoever waits for it has looked and left it: the next round of events goes on from here.
            if pid == before {
                break;
            }
            before = pid;
            if let Some((key, container)) = self.containers.iter().find(|(_, container)| container.is_parent_of(pid)) {
                if container.is_ending() {
                    break;
                }
                self.init_ended(*key);
            } else if let Some(job) =
                self.jobs.iter().find(|(_, job)| job.helper_pid() == Some(pid)).map(|(key, _)| *key)
            {
                self.helper_ended(job);
            } else if let Some(job) = self.jobs.iter().find(|(_, job)| job.main_pid() == Some(pid)).map(|(key, _)| *key)
            {
                self.exec_ended(job);
            } else if wait::reap_pid(pid).is_err() {
                break;
            }
        }
    }
}
