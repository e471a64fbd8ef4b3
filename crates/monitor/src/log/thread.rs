//! The thread that writes logs, and how the main thread talks to it.

use std::collections::BTreeMap;
use std::io;
use std::mem::take;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cricket_wire::{DetachReason, Log, Stream};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::file;
use super::sessions::{NewSession, Sessions};
use super::sink::{Progress, READ, Sink};

/// The thread needs little: its buffers are on the heap.
const STACK: usize = 64 * 1024;
/// How long a log that cannot be written is left alone: nothing says when a disk has room again.
const RETRY: Duration = Duration::from_millis(100);
/// Looks at a terminal or a blocked log of a container that has ended.
const FINISH_RETRY: Duration = Duration::from_millis(20);
/// Token of the eventfd; inputs have `key << 8 | index`, all that is of sessions `key << 8 | SESSIONS`.
const WAKE: u64 = u64::MAX;
/// See [`WAKE`].
const SESSIONS: u64 = 0xff;

/// What the main thread wants. A container is named by its key.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open a container's log and read its output; answered by [`Note::Opened`].
    Open { key: u64, log: Option<Log>, inputs: Vec<(Stream, Arc<OwnedFd>)> },
    /// One more input: the terminal comes when the container is made.
    Add { key: u64, stream: Stream, fd: Arc<OwnedFd> },
    /// Open the log by its name again; answered by [`Note::Reopened`].
    Reopen { key: u64, ticket: u64 },
    /// Write what there is and be done with it, at the deadline at the latest; answered by [`Note::Finished`].
    Finish { key: u64, deadline: Instant },
    /// Attach a session; answered by [`Note::Detached`] when it is over.
    Attach { key: u64, session: Box<NewSession> },
    /// Sessions write to the container's standard input no more.
    CloseInput { key: u64 },
}

/// What the thread has to say.
#[derive(Debug)]
pub(crate) enum Note {
    /// The log is open, or why not.
    Opened { key: u64, error: Option<io::Error> },
    /// The log was opened again, or why the old one is still in use.
    Reopened { ticket: u64, error: Option<io::Error> },
    /// The output is written, but for the lost bytes.
    Finished { key: u64, lost: u64 },
    /// A session is over.
    Detached { key: u64, ticket: u64, reason: DetachReason },
    /// The container's standard input has to be closed: the session that it was for is over, or nobody reads it.
    InputEnded { key: u64 },
}

struct Shared {
    commands: Mutex<Vec<Command>>,
    notes: Mutex<Vec<Note>>,
    command_wake: OwnedFd,
    note_wake: OwnedFd,
}

/// The main thread's handle. The thread is started with the first command, so that a pod without containers has none.
pub(crate) struct LogThread {
    shared: Arc<Shared>,
    started: bool,
}

impl LogThread {
    /// Makes what is needed to talk to the thread.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (command_wake, note_wake) = (eventfd(0, flags)?, eventfd(0, flags)?);
        let shared = Shared { commands: Mutex::default(), notes: Mutex::default(), command_wake, note_wake };
        Ok(Self { shared: Arc::new(shared), started: false })
    }

    /// Readable when there are notes.
    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.shared.note_wake
    }

    /// Hands over a command.
    pub(crate) fn send(&mut self, command: Command) -> io::Result<()> {
        if !self.started {
            let writer = Writer::new(self.shared.clone())?;
            std::thread::Builder::new().name("logs".to_owned()).stack_size(STACK).spawn(move || writer.run())?;
            self.started = true;
        }
        lock(&self.shared.commands).push(command);
        wake(&self.shared.command_wake);
        Ok(())
    }

    /// All notes since the last call.
    pub(crate) fn notes(&self) -> Vec<Note> {
        drain(&self.shared.note_wake);
        take(&mut *lock(&self.shared.notes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(fd: &OwnedFd) {
    // It fails only when the counter is full, and then the other side is woken already.
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}

fn drain(fd: &OwnedFd) {
    let _ = rustix::io::read(fd, &mut [0; 8]);
}

struct Entry {
    sink: Sink,
    log: Option<Log>,
    /// Inputs in the epoll set.
    watched: u64,
    retry: Option<Instant>,
    deadline: Option<Instant>,
    /// The log takes nothing: nothing is read.
    blocked: bool,
    sessions: Sessions,
    /// The log is done with; sessions have still to take what they are owed.
    finished: bool,
}

impl Entry {
    fn new(sink: Sink, log: Option<Log>) -> Self {
        let (watched, retry, deadline, blocked, finished) = (0, None, None, false, false);
        Self { sink, log, watched, retry, deadline, blocked, sessions: Sessions::default(), finished }
    }

    /// When it has to be looked at, whatever happens.
    fn due(&self) -> Option<Instant> {
        self.retry.into_iter().chain(self.sessions.deadline()).min()
    }
}

struct Writer {
    shared: Arc<Shared>,
    epoll: Arc<OwnedFd>,
    entries: BTreeMap<u64, Entry>,
    scratch: Vec<u8>,
}

impl Writer {
    fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &shared.command_wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { shared, epoll: Arc::new(epoll), entries: BTreeMap::new(), scratch: Vec::new() })
    }

    fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(16);
        loop {
            let next = self.entries.values().filter_map(Entry::due).min();
            // While there is work the buffers are kept; before a longer sleep they are given back.
            let timeout = match next.map(|at| at.saturating_duration_since(Instant::now())) {
                _ if !self.scratch.is_empty() => Some(Timespec::default()),
                Some(left) => Timespec::try_from(left).ok(),
                None => None,
            };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(0) if !self.scratch.is_empty() => self.scratch = Vec::new(),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => panic!("epoll_wait: {errno}"),
            }
            let mut ready: Vec<u64> = Vec::new();
            for event in &events {
                match event.data.u64() {
                    WAKE => self.commands(&mut ready),
                    token => ready.push(token >> 8),
                }
            }
            let now = Instant::now();
            let due = |entry: &Entry| entry.due().is_some_and(|at| at <= now);
            ready.extend(self.entries.iter().filter(|(_, entry)| due(entry)).map(|(key, _)| *key));
            ready.sort_unstable();
            ready.dedup();
            for key in ready {
                self.pump(key);
            }
        }
    }

    fn commands(&mut self, ready: &mut Vec<u64>) {
        drain(&self.shared.command_wake);
        let commands = take(&mut *lock(&self.shared.commands));
        for command in commands {
            match command {
                Command::Open { key, log, inputs } => {
                    let opened = log.as_ref().map(file::open).transpose();
                    let (file, error) = opened.map_or_else(|error| (None, Some(error)), |file| (file, None));
                    let mut sink = Sink::new(file, log.as_ref().map_or(0, |log| log.max_line as usize));
                    inputs.into_iter().for_each(|(stream, fd)| sink.add(stream, fd));
                    self.entries.insert(key, Entry::new(sink, log));
                    self.note(Note::Opened { key, error });
                    ready.push(key);
                }
                Command::Add { key, stream, fd } => {
                    if let Some(entry) = self.entries.get_mut(&key) {
                        entry.sink.add(stream, fd);
                        ready.push(key);
                    }
                }
                Command::Reopen { key, ticket } => {
                    let error = self.reopen(key).err();
                    self.note(Note::Reopened { ticket, error });
                    ready.push(key);
                }
                Command::Finish { key, deadline } => match self.entries.get_mut(&key) {
                    Some(entry) => {
                        entry.sink.finish(Instant::now());
                        entry.deadline = Some(deadline);
                        ready.push(key);
                    }
                    None => self.note(Note::Finished { key, lost: 0 }),
                },
                Command::Attach { key, session } => match self.entries.get_mut(&key).filter(|e| !e.finished) {
                    Some(entry) => {
                        entry.sessions.add(*session, &self.epoll, key << 8 | SESSIONS, Instant::now());
                        ready.push(key);
                    }
                    None => self.detached(key, session.ticket, DetachReason::Ended),
                },
                Command::CloseInput { key } => {
                    if let Some(entry) = self.entries.get_mut(&key) {
                        entry.sessions.close_input();
                        ready.push(key);
                    }
                }
            }
        }
    }

    fn reopen(&mut self, key: u64) -> io::Result<()> {
        let Some(entry) = self.entries.get_mut(&key) else { return Ok(()) };
        if let Some(log) = &entry.log {
            entry.sink.replace_file(file::open(log)?);
        }
        Ok(())
    }

    fn pump(&mut self, key: u64) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if self.scratch.is_empty() {
            self.scratch = vec![0; READ];
        }
        let now = Instant::now();
        if !entry.finished {
            let progress = entry.sink.pump(&mut self.scratch, &mut entry.sessions);
            let over = entry.deadline.is_some_and(|deadline| deadline <= now);
            if progress == Progress::Finished || over {
                let lost = entry.sink.lost();
                self.finish(key, lost);
            } else {
                entry.retry = match (progress, entry.deadline) {
                    (Progress::More, Some(_)) => Some(now),
                    (_, Some(_)) => Some(now + FINISH_RETRY),
                    (Progress::Blocked, None) => Some(now + RETRY),
                    (_, None) => None,
                };
                entry.blocked = progress == Progress::Blocked;
            }
        }
        self.serve(key, now);
        self.watch(key);
        if self.entries.get(&key).is_some_and(|entry| entry.finished && entry.sessions.is_empty()) {
            self.entries.remove(&key);
        }
    }

    /// The log is done with: its descriptors are let go of.
    fn finish(&mut self, key: u64, lost: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.blocked = true;
        self.watch(key);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.finished = true;
            entry.retry = None;
            entry.sink = Sink::default();
            entry.sessions.end();
        }
        self.note(Note::Finished { key, lost });
    }

    /// Moves what sessions send and what they are owed.
    fn serve(&mut self, key: u64, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| !entry.sessions.is_empty()) else { return };
        let told = entry.sessions.pump(&mut self.scratch, now);
        entry.sessions.watch();
        if told.input_ended {
            self.note(Note::InputEnded { key });
        }
        for (ticket, reason) in told.detached {
            self.detached(key, ticket, reason);
        }
    }

    fn detached(&self, key: u64, ticket: u64, reason: DetachReason) {
        self.note(Note::Detached { key, ticket, reason });
    }

    /// Puts the inputs that can give something into the epoll set; none of a log that is blocked.
    fn watch(&mut self, key: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        for (index, (readable, fd)) in entry.sink.inputs(&entry.sessions).enumerate().take(64) {
            let (bit, token) = (1 << index, key << 8 | index as u64);
            let wanted = readable && !entry.blocked;
            match (entry.watched & bit != 0, wanted) {
                (false, true) => {
                    let added = epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN).is_ok();
                    entry.watched |= if added { bit } else { 0 };
                }
                (true, false) => {
                    let _ = epoll::delete(&self.epoll, fd);
                    entry.watched &= !bit;
                }
                _ => {}
            }
        }
    }

    fn note(&self, note: Note) {
        lock(&self.shared.notes).push(note);
        wake(&self.shared.note_wake);
    }
}
