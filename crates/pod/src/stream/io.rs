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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    fn over(end: oneshot::Receiver<()>) -> Over {
        Box::pin(async move {
            let _ = end.await;
        })
    }

    #[tokio::test]
    async fn an_output_that_is_over_gives_what_is_there_and_ends() {
        let (reader, writer) = crate::pipe::pair().expect("pipe");
        let (end, ended) = oneshot::channel();
        let mut output = Output::pipe(reader, Some(over(ended))).expect("output");
        rustix::io::write(&writer, b"one").expect("write");
        let mut bytes = [0; 3];
        output.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"one");
        let waiting = tokio::time::timeout(Duration::from_millis(50), output.read(&mut bytes));
        assert!(waiting.await.is_err(), "somebody may still write");
        rustix::io::write(&writer, b"rest").expect("write");
        end.send(()).expect("send");
        let mut rest = Vec::new();
        let mut first = [0; 2];
        output.read_exact(&mut first).await.expect("read");
        // Whoever still holds the pipe writes for nobody.
        rustix::io::write(&writer, b"later").expect("write");
        output.read_to_end(&mut rest).await.expect("read");
        assert_eq!((&first, rest.as_slice()), (b"re", &b"st"[..]));
        assert_eq!(rustix::io::write(&writer, b"x"), Err(Errno::PIPE), "the reading end is closed");
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_the_end() {
        let (reader, _writer) = crate::pipe::pair().expect("pipe");
        let (end, ended) = oneshot::channel();
        let mut output = Output::pipe(reader, Some(over(ended))).expect("output");
        let reading = tokio::spawn(async move { output.read_to_end(&mut Vec::new()).await });
        tokio::task::yield_now().await;
        end.send(()).expect("send");
        let read = tokio::time::timeout(Duration::from_secs(10), reading).await.expect("in time");
        assert_eq!(read.expect("join").expect("read"), 0);
    }

    #[tokio::test]
    async fn a_terminal_is_read_written_resized_and_ends_with_its_other_side() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("unlock");
        let name = ptsname(&master, Vec::new()).expect("name");
        let slave = std::fs::File::options().read(true).write(true).open(name.to_str().expect("UTF-8")).expect("open");
        let duplicate = || master.try_clone().expect("dup");
        let (_end, ended) = oneshot::channel();
        let mut output = Output::terminal(duplicate(), over(ended)).expect("output");
        let mut input = Input::new(duplicate()).expect("input");
        Terminal::new(duplicate()).resize(132, 43).expect("resize");
        let size = rustix::termios::tcgetwinsize(&slave).expect("size");
        assert_eq!((size.ws_col, size.ws_row), (132, 43));
        input.write_all(b"word\n").await.expect("write");
        let mut line = [0; 5];
        std::io::Read::read_exact(&mut &slave, &mut line).expect("read");
        assert_eq!(&line, b"word\n");
        drop(slave);
        let mut text = Vec::new();
        output.read_to_end(&mut text).await.expect("read");
        assert_eq!(text, b"word\r\n", "the echo, then the end");
    }

    #[tokio::test]
    async fn an_input_ends_when_it_is_shut_down() {
        let (theirs, ours) = crate::stream::attach::input_pair().expect("pipe");
        let mut input = Input::new(ours).expect("input");
        input.write_all(b"abc").await.expect("write");
        input.shutdown().await.expect("shutdown");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(theirs), &mut bytes).expect("read");
        assert_eq!(bytes, b"abc");
        let late = input.write_all(b"x").await.expect_err("closed");
        assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_known_text_is_an_output() {
        let mut text = String::new();
        Output::text("not found\n".into()).read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "not found\n");
    }
}
