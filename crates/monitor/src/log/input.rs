//! A container's standard input, as sessions write to it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::poll::Polled;

/// The writing end of the container's standard input, or its terminal.
pub(super) struct Input {
    fd: Polled,
    /// It ends with the first session that writes to it.
    pub(super) once: bool,
    /// What the container has not taken yet, of one session's last bytes.
    unsent: Vec<u8>,
}

impl Input {
    pub(super) fn new(fd: Arc<OwnedFd>, once: bool, epoll: Arc<OwnedFd>, token: u64) -> Self {
        Self { fd: Polled::new(fd, epoll, token), once, unsent: Vec::new() }
    }

    /// The container has still to read: no session is read meanwhile.
    pub(super) fn is_full(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Passes input on, or keeps what the container does not take. An error: it will take nothing any more.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let taken = write(&self.fd, bytes)?;
        self.unsent = bytes[taken..].to_vec();
        Ok(())
    }

    /// Passes on what was kept.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        if self.is_full() {
            let taken = write(&self.fd, &self.unsent)?;
            self.unsent.drain(..taken);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Ok(())
    }

    pub(super) fn watch(&mut self) {
        let flags = self.is_full().then_some(EventFlags::OUT);
        self.fd.wait_for(flags);
    }
}

fn write(fd: &Polled, bytes: &[u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::write(fd.fd(), &bytes[done..]) {
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}
