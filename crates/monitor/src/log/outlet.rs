//! One output stream of one session: a pipe that somebody reads.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::poll::Polled;

/// A session that takes nothing for so long is ended: until then the container's output waits for it, as it would wait
/// for any reader.
pub(super) const STALL: Duration = Duration::from_secs(5);
/// Output that is kept for a session once the container has ended: what its pipes can hold.
const MAX_REST: usize = 2 << 20;

/// The session does not take its output any more.
pub(super) enum Lost {
    /// Its reader is gone.
    Closed,
    /// It is too slow.
    Stuck,
}

/// Holds nothing while the reader keeps up: the pipe is the buffer.
pub(super) struct Outlet {
    pipe: Polled,
    unsent: Vec<u8>,
    /// When something has to have been taken.
    deadline: Instant,
}

impl Outlet {
    pub(super) fn new(pipe: Polled, now: Instant) -> Self {
        Self { pipe, unsent: Vec::new(), deadline: now }
    }

    pub(super) fn pipe(&self) -> &Polled {
        &self.pipe
    }

    /// Something waits for the reader.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// When the reader will have been too slow.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.is_behind().then_some(self.deadline)
    }

    /// Passes output on, or keeps what the pipe does not take.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant) -> Result<(), Lost> {
        if self.is_behind() {
            self.unsent.extend_from_slice(bytes);
            return if self.unsent.len() > MAX_REST { Err(Lost::Stuck) } else { Ok(()) };
        }
        let taken = self.write(bytes)?;
        if taken < bytes.len() {
            self.unsent = bytes[taken..].to_vec();
            self.deadline = now + STALL;
        }
        Ok(())
    }

    /// Passes on what was kept.
    pub(super) fn flush(&mut self, now: Instant) -> Result<(), Lost> {
        if !self.is_behind() {
            return Ok(());
        }
        let taken = self.write(&self.unsent)?;
        if taken == self.unsent.len() {
            self.unsent = Vec::new();
        } else if taken > 0 {
            self.unsent.drain(..taken);
            self.deadline = now + STALL;
        } else if self.deadline <= now {
            return Err(Lost::Stuck);
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Lost> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::write(self.pipe.fd(), &bytes[done..]) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return Err(Lost::Closed),
            }
        }
        Ok(done)
    }

    /// Waits for room while something is kept, and always for the reader's end.
    pub(super) fn watch(&mut self) {
        let flags = if self.is_behind() { EventFlags::OUT } else { EventFlags::empty() };
        self.pipe.wait_for(Some(flags));
    }
}
