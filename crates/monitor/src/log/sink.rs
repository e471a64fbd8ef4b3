//! One container's output, from its pipes to its file.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cricket_wire::Stream;
use rustix::io::Errno;

use super::sessions::Sessions;
use super::split::Splitter;
use super::time::Timestamp;

/// Bytes of a stream that are read at once.
pub(super) const READ: usize = 32 * 1024;
/// Entries are written when there are this many bytes of them, and at the end of what can be read.
const BATCH: usize = 64 * 1024;
/// Input between two looks at the batch: lines of one byte grow 46-fold, so this bounds what is beyond it to 92 KiB.
const CHUNK: usize = 2048;
/// Reads from one container before the others have their turn.
const ROUNDS: usize = 8;
/// A terminal passes on the last bytes a moment after its last process has ended.
const TERMINAL_GRACE: Duration = Duration::from_millis(100);

/// What became of an attempt to move output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing more to read at the moment.
    Idle,
    /// There may be more, others first.
    More,
    /// The file does not take any more.
    Blocked,
    /// Everything is written that there will be.
    Finished,
}

struct Input {
    fd: Arc<OwnedFd>,
    stream: Stream,
    splitter: Splitter,
    /// Read, not yet cut: only while the file is blocked.
    unread: Vec<u8>,
    ended: bool,
    /// Once finishing: how much of a pipe is still to be read.
    owed: Option<u64>,
}

/// One container's output.
#[derive(Default)]
pub(super) struct Sink {
    file: Option<OwnedFd>,
    max_line: usize,
    inputs: Vec<Input>,
    pending: Vec<u8>,
    finishing: Option<Instant>,
    lost: u64,
}

impl Sink {
    /// `max_line` as [`Splitter::new`] takes it.
    pub(super) fn new(file: Option<OwnedFd>, max_line: usize) -> Self {
        Self { file, max_line, ..Self::default() }
    }

    pub(super) fn add(&mut self, stream: Stream, fd: Arc<OwnedFd>) {
        let name = if stream == Stream::Stderr { "stderr" } else { "stdout" };
        self.inputs.push(Input {
            fd,
            stream,
            splitter: Splitter::new(name, self.max_line),
            unread: Vec::new(),
            ended: false,
            owed: None,
        });
    }

    /// Each input: whether there is anything to read from it now or later, and its descriptor.
    pub(super) fn inputs(&self, sessions: &Sessions) -> impl Iterator<Item = (bool, &Arc<OwnedFd>)> {
        let waits = [false, true].map(|stderr| sessions.hold(stderr));
        self.inputs.iter().map(move |input| {
            let held = self.finishing.is_none() && waits[usize::from(input.stream == Stream::Stderr)];
            (!input.ended && !held, &input.fd)
        })
    }

    /// What was read goes to the old file as far as it takes it, everything later to the new one.
    pub(super) fn replace_file(&mut self, file: OwnedFd) {
        self.flush();
        self.file = Some(file);
    }

    /// The container has ended: nobody but a background process that escaped it can still write. What is in the
    /// pipes now is owed, nothing later.
    pub(super) fn finish(&mut self, now: Instant) {
        self.finishing = Some(now);
        for input in &mut self.inputs {
            input.owed = (input.stream != Stream::Terminal).then(|| rustix::io::ioctl_fionread(&input.fd).unwrap_or(0));
        }
    }

    /// Gives up: the bytes that did not get into the file.
    pub(super) fn lost(&self) -> u64 {
        let left = |input: &Input| {
            let pipe = if input.ended { 0 } else { rustix::io::ioctl_fionread(&input.fd).unwrap_or(0) };
            pipe + (input.unread.len() + input.splitter.held()) as u64
        };
        self.lost + self.pending.len() as u64 + self.inputs.iter().map(left).sum::<u64>()
    }

    /// Moves what there is, for a bounded time, and shares it with the sessions. While one of them is behind, and the
    /// container has not ended, nothing more is read for it to miss.
    pub(super) fn pump(&mut self, scratch: &mut [u8], sessions: &mut Sessions) -> Progress {
        for _ in 0..ROUNDS {
            for index in 0..self.inputs.len() {
                let unread = std::mem::take(&mut self.inputs[index].unread);
                if !self.take(index, &unread) {
                    return Progress::Blocked;
                }
            }
            let mut idle = true;
            for index in 0..self.inputs.len() {
                let stderr = self.inputs[index].stream == Stream::Stderr;
                if self.finishing.is_none() && sessions.hold(stderr) {
                    continue;
                }
                if let Some(count) = self.read(index, scratch) {
                    idle = false;
                    sessions.share(stderr, &scratch[..count], Instant::now());
                    if !self.take(index, &scratch[..count]) {
                        return Progress::Blocked;
                    }
                }
            }
            if !self.flush() {
                return Progress::Blocked;
            }
            if idle {
                self.pending = Vec::new();
                let finished = self.finishing.is_some() && self.inputs.iter().all(|input| input.ended);
                return if finished { Progress::Finished } else { Progress::Idle };
            }
        }
        Progress::More
    }

    /// How many bytes were read; `None`: nothing at the moment, or for ever.
    fn read(&mut self, index: usize, scratch: &mut [u8]) -> Option<usize> {
        let finishing = self.finishing;
        let input = &mut self.inputs[index];
        if input.ended {
            return None;
        }
        let most = input.owed.map_or(scratch.len(), |owed| scratch.len().min(usize::try_from(owed).unwrap_or(READ)));
        let ended = match rustix::io::retry_on_intr(|| rustix::io::read(&input.fd, &mut scratch[..most])) {
            Ok(0) => true,
            Ok(count) => {
                input.owed = input.owed.map(|owed| owed.saturating_sub(count as u64));
                return Some(count);
            }
            Err(Errno::AGAIN) => match finishing {
                Some(since) => (input.stream != Stream::Terminal) || since.elapsed() >= TERMINAL_GRACE,
                None => false,
            },
            // EIO is how the master of a terminal says that nobody has the other side open.
            Err(_) => true,
        };
        if ended {
            input.ended = true;
            if self.file.is_some() {
                input.splitter.finish(&Timestamp::now(), &mut self.pending);
            }
        }
        None
    }

    /// Cuts bytes into entries; false: the file is blocked, the rest is kept.
    fn take(&mut self, index: usize, mut bytes: &[u8]) -> bool {
        if self.file.is_none() {
            return true;
        }
        loop {
            if self.pending.len() >= BATCH && !self.flush() {
                self.inputs[index].unread = bytes.to_vec();
                return false;
            }
            if bytes.is_empty() {
                return true;
            }
            let (chunk, rest) = bytes.split_at(bytes.len().min(CHUNK));
            self.inputs[index].splitter.push(chunk, &Timestamp::now(), &mut self.pending);
            bytes = rest;
        }
    }

    /// Writes what is pending; false: the file does not take it now.
    fn flush(&mut self) -> bool {
        let Some(file) = &self.file else { return true };
        let mut done = 0;
        let blocked = loop {
            if done == self.pending.len() {
                break false;
            }
            match rustix::io::write(file, &self.pending[done..]) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                // Space may come back, a FIFO's reader may go on, a file system may be remounted.
                Err(Errno::AGAIN | Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::NOMEM) => break true,
                // Nothing will ever be written to this file (EPIPE, EFBIG …).
                Err(_) => {
                    self.lost += (self.pending.len() - done) as u64;
                    done = self.pending.len();
                }
            }
        };
        self.pending.drain(..done);
        !blocked
    }
}
