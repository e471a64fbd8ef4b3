//! A descriptor in the log thread's epoll set, with what is waited for.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};

/// Leaves the set when it is dropped: whoever made it may hold duplicates, which would keep it there.
pub(super) struct Polled {
    fd: Arc<OwnedFd>,
    epoll: Arc<OwnedFd>,
    token: u64,
    flags: Option<EventFlags>,
}

impl Polled {
    /// Not in the set yet.
    pub(super) fn new(fd: Arc<OwnedFd>, epoll: Arc<OwnedFd>, token: u64) -> Self {
        Self { fd, epoll, token, flags: None }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Waits for this from now on; `None`: for nothing, not even for the other side's end, of which an empty set of
    /// flags still tells.
    pub(super) fn wait_for(&mut self, flags: Option<EventFlags>) {
        if self.flags == flags {
            return;
        }
        let data = EventData::new_u64(self.token);
        let done = match (self.flags, flags) {
            (None, Some(flags)) => epoll::add(&self.epoll, &*self.fd, data, flags),
            (Some(_), Some(flags)) => epoll::modify(&self.epoll, &*self.fd, data, flags),
            (_, None) => epoll::delete(&self.epoll, &*self.fd),
        };
        if done.is_ok() {
            self.flags = flags;
        }
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.wait_for(None);
    }
}
