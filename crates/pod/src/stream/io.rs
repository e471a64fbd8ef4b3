//! Ends of pipes and terminals as asynchronous readers and writers.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::error::{Error, Result};

/// Bytes that are still taken from a terminal whose command has ended, and of which nobody says how many there are.
const TERMINAL_REST: usize = 64 << 10;

/// Makes a descriptor ready for asynchronous use; it must not be shared with who expects it to block.
#[expect(
    deprecated,
    reason = "its replacement is unsafe code for types whose descriptor may change; OwnedFd's never does"
)]
fn register(fd: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true).map_err(|e| Error::internal("set a stream's flags", &e))?;
    AsyncFd::with_interest(fd, interest).map_err(|e| Error::internal("register a stream", &e))
}

/// What a session writes to: a command's or container's standard input. Shutting it down ends that input, unless it is
/// a terminal, which has no end.
#[derive(Debug)]
pub struct Input(Option<AsyncFd<OwnedFd>>);

impl Input {
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        Ok(Self(Some(register(fd, Interest::WRITABLE)?)))
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(fd) = &self.0 else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        loop {
            let mut guard = ready!(fd.poll_write_ready(cx))?;
            match rustix::io::write(fd.get_ref(), bytes) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                // The other side of the terminal is closed.
                Err(Errno::IO) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                result => return Poll::Ready(result.map_err(io::Error::from)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

/// Completes when an output has to end although somebody may still hold its other side.
pub(super) type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a session reads from: the output of a command or container.
pub struct Output {
    source: Source,
    terminal: bool,
    over: Option<Over>,
    /// Once over: how much is still to be read of what was there then.
    owed: Option<usize>,
}

enum Source {
    Fd(AsyncFd<OwnedFd>),
    Bytes(io::Cursor<Vec<u8>>),
    Ended,
}

impl Output {
    /// The reading end of a pipe. When `over` completes, what is in it by then is the rest.
    pub(super) fn pipe(fd: OwnedFd, over: Option<Over>) -> Result<Self> {
        let source = Source::Fd(register(fd, Interest::READABLE)?);
        Ok(Self { source, terminal: false, over, owed: None })
    }

    /// A terminal's master.
    pub(super) fn terminal(fd: OwnedFd, over: Over) -> Result<Self> {
        let source = Source::Fd(register(fd, Interest::READABLE)?);
        Ok(Self { source, terminal: true, over: Some(over), owed: None })
    }

    /// A text that is known.
    pub(super) fn text(text: String) -> Self {
        Self { source: Source::Bytes(io::Cursor::new(text.into_bytes())), terminal: false, over: None, owed: None }
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("terminal", &self.terminal).field("owed", &self.owed).finish_non_exhaustive()
    }
}

impl AsyncRead for Output {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let fd = match &mut this.source {
            Source::Ended => return Poll::Ready(Ok(())),
            Source::Bytes(bytes) => return Pin::new(bytes).poll_read(cx, into),
            Source::Fd(fd) => fd,
        };
        if let Some(over) = &mut this.over
            && over.as_mut().poll(cx).is_ready()
        {
            this.over = None;
            let left = || rustix::io::ioctl_fionread(fd.get_ref()).map_or(0, |n| usize::try_from(n).unwrap_or(0));
            this.owed = Some(if this.terminal { TERMINAL_REST } else { left() });
        }
        let most = this.owed.unwrap_or(usize::MAX).min(into.remaining());
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let count = loop {
            if most == 0 {
                break 0;
            }
            let buffer = into.initialize_unfilled_to(most);
            match rustix::io::read(fd.get_ref(), buffer) {
                Ok(count) => break count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if this.owed.is_some() => break 0,
                // How the master of a terminal says that nobody has the other side open.
                Err(Errno::IO) if this.terminal => break 0,
                Err(Errno::AGAIN) => {
                    let mut guard = ready!(fd.poll_read_ready(cx))?;
                    guard.clear_ready();
                }
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        };
        if count == 0 {
            this.source = Source::Ended;
        }
        this.owed = this.owed.map(|owed| owed - count);
        into.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// A terminal's size, for a session that may change it.
#[derive(Debug, Clone)]
pub struct Terminal(Arc<OwnedFd>);

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> Self {
        Self(Arc::new(master))
    }

    /// Sets the size in characters; whoever runs in the terminal is told by `SIGWINCH`. The kernel remembers it, with or
    /// without sessions.
    ///
    /// # Errors
    /// `Internal`: the kernel's, ioctl_tty(2).
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.0.as_fd(), size).map_err(|e| Error::internal("resize the terminal", &e))
    }
}
