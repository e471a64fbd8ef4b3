//! A console socket, to which an OCI runtime sends the master of a terminal.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::error::Error;

/// Name of the socket in its directory.
const NAME: &str = "console";

/// A listening console socket.
#[derive(Debug)]
pub(crate) struct Console {
    listener: UnixListener,
    /// Where it is.
    directory: OwnedFd,
    path: PathBuf,
}

impl Console {
    /// Listens in a directory whose path may be longer than a socket's may (unix(7): 107 bytes).
    pub(crate) fn listen(dir: &Path) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::io(format!("make a console socket in {}", dir.display()), e);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let short = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(failed)?;
        Ok(Self { listener, directory, path: dir.join(NAME) })
    }

    /// Where the runtime connects to: through this process, for the same reason.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}/{NAME}", std::process::id(), self.directory.as_raw_fd())
    }

    /// Waits until the runtime has connected.
    pub(crate) fn wait(self, limit: Duration) -> Result<Self, Error> {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        let limit = Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
        match poll(&mut fds, Some(&limit)).map_err(|e| Error::io("wait for the terminal", e))? {
            0 => Err(Error::host("the runtime sent no terminal in time")),
            _ => Ok(self),
        }
    }

    /// The master, from a runtime that has connected.
    pub(crate) fn receive(self) -> Result<OwnedFd, Error> {
        let failed = |e: std::io::Error| Error::io("receive the terminal", e);
        self.listener.set_nonblocking(true).map_err(failed)?;
        let (stream, _) = self.listener.accept().map_err(failed)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0u8; 4096];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, flags).map_err(|e| failed(e.into()))?;
        let mut fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        fds.next().ok_or_else(|| Error::host("the runtime sent no terminal"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
