//! A console socket, to which an OCI runtime sends the master of a terminal.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::error::Error;

/// Name of the socket in its directory.
const NAME: &str = "console";

/// A listening console socket.
#[derive(Debug)]
pub(crate) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Listens in a directory whose path may be longer than a socket's may (unix(7): 107 bytes).
    pub(crate) fn listen(dir: &Path) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::io(format!("make a console socket in {}", dir.display()), e);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let short = format!("/proc/self/fd/{}/{NAME}", fd.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(failed)?;
        Ok(Self { listener, path: dir.join(NAME) })
    }

    /// Where the runtime connects to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The master. The runtime has sent it already: nothing is waited for but the accepted bytes.
    pub(crate) fn receive(self) -> Result<OwnedFd, Error> {
        let failed = |e: std::io::Error| Error::io("receive the terminal", e);
        self.listener.set_nonblocking(true).map_err(failed)?;
        let (stream, _) = self.listener.accept().map_err(failed)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0u8; 4096];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
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
