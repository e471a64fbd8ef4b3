//! The ends of one stream of a session: bytes that came from the client, and bytes on their way to it.
//!
//! Invariants: both sides are bounded, so that whoever is slow slows the other one down; what is given to [`Output`]
//! is sent in the order in which it was given, by the one task that writes to the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::budget::Allowance;

/// Chunks of one stream that wait for their reader.
const INPUT_QUEUE: usize = 8;
/// Chunks of a whole connection that wait to be written.
pub(crate) const OUTPUT_QUEUE: usize = 16;
/// Largest chunk, in bytes, in either direction; what Go's clients use.
pub(crate) const CHUNK: usize = 32 << 10;

/// What is written to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Bytes of a stream.
    Data(u32, Bytes),
    /// The stream's last bytes were sent.
    Fin(u32),
    /// SPDY: the client's stream is accepted.
    Reply(u32),
    /// SPDY: the stream is over in both directions, with the reason's number.
    Reset(u32, u32),
    /// SPDY: the answer to a ping.
    Ping(u32),
    /// Nothing follows. SPDY names the last stream that was accepted and a reason's number.
    Close(u32, u32),
}

/// A queue to the task that writes to a connection.
pub(crate) type Commands = mpsc::Sender<Command>;

/// The bytes of a stream that come from the client.
#[derive(Debug)]
pub struct Input {
    queue: mpsc::Receiver<Bytes>,
    rest: Bytes,
    reset: Arc<AtomicBool>,
}

/// The sending side of an [`Input`].
#[derive(Debug, Clone)]
pub(crate) struct InputSender {
    queue: mpsc::Sender<Bytes>,
    reset: Arc<AtomicBool>,
    /// What the stream may keep when its connection has spent its budget.
    pub(crate) allowance: Allowance,
}

/// A new stream's input and what feeds it. It ends when the last feeder is dropped.
pub(crate) fn input() -> (InputSender, Input) {
    let (sender, queue) = mpsc::channel(INPUT_QUEUE);
    let reset = Arc::new(AtomicBool::new(false));
    let sender = InputSender { queue: sender, reset: reset.clone(), allowance: Allowance::default() };
    (sender, Input { queue, rest: Bytes::new(), reset })
}

impl InputSender {
    /// Hands bytes over; waits while the reader is slow. Bytes for a reader that is gone are thrown away.
    pub(crate) async fn send(&self, bytes: Bytes) {
        let _gone = self.queue.send(bytes).await;
    }

    /// Hands bytes over if there is room; gives them back if there is not.
    pub(crate) fn try_send(&self, bytes: Bytes) -> Result<(), Bytes> {
        match self.queue.try_send(bytes) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(bytes)) => Err(bytes),
        }
    }

    /// Whether the reader is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// The client gave the stream up: the reader gets an error instead of an end.
    pub(crate) fn reset(self) {
        self.reset.store(true, Ordering::Release);
    }
}

impl Input {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The client gave the stream up.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if self.rest.has_remaining() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        match ready!(self.queue.poll_recv(cx)) {
            None if self.reset.load(Ordering::Acquire) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            chunk => Poll::Ready(Ok(chunk)),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut bytes) = ready!(self.poll_chunk(cx))? else { return Poll::Ready(Ok(())) };
        let fits = bytes.len().min(to.remaining());
        to.put_slice(&bytes.split_to(fits));
        // Nothing of them is kept once they have been read.
        self.rest = if bytes.is_empty() { Bytes::new() } else { bytes };
        Poll::Ready(Ok(()))
    }
}

/// Why bytes did not all reach the client.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Their source failed.
    #[error("read: {0}")]
    Read(io::Error),
    /// The client is gone.
    #[error("write: {0}")]
    Write(io::Error),
}

/// The bytes of a stream that go to the client.
#[derive(Debug)]
pub struct Output {
    stream: u32,
    queue: PollSender<Command>,
    ended: bool,
}

impl Output {
    pub(crate) fn new(stream: u32, commands: Commands) -> Self {
        Self { stream, queue: PollSender::new(commands), ended: false }
    }

    /// Sends bytes, without copying them.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        self.put(Command::Data(self.stream, bytes))
    }

    /// Sends everything from a reader until that ends. The stream is not ended.
    ///
    /// # Errors
    /// Says which of both sides failed.
    pub async fn copy_from<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> Result<(), CopyError> {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            let mut room = (&mut *from).take(CHUNK as u64);
            match room.read_buf(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(_) => self.send(buffer.split().freeze()).await.map_err(CopyError::Write)?,
                Err(error) => return Err(CopyError::Read(error)),
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue.poll_reserve(cx).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn put(&mut self, command: Command) -> io::Result<()> {
        self.queue.send_item(command).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Output {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if from.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_ready(cx))?;
        let taken = from.len().min(CHUNK);
        let command = Command::Data(self.stream, Bytes::copy_from_slice(&from[..taken]));
        self.put(command)?;
        Poll::Ready(Ok(taken))
    }

    /// What was written is on its way; how far it got cannot be told.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            ready!(self.poll_ready(cx))?;
            let command = Command::Fin(self.stream);
            self.put(command)?;
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn input_ends_or_fails_as_the_client_says() {
        let (sender, mut input) = input();
        sender.send(Bytes::from_static(b"hello")).await;
        drop(sender);
        let mut text = String::new();
        input.read_to_string(&mut text).await.expect("whole");
        assert_eq!(text, "hello");

        let (sender, mut input) = super::input();
        sender.send(Bytes::from_static(b"half")).await;
        sender.reset();
        assert_eq!(input.chunk().await.expect("first").as_deref(), Some(&b"half"[..]));
        assert_eq!(input.chunk().await.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_sender_up_and_one_that_left_does_not() {
        let (sender, input) = input();
        for _ in 0..INPUT_QUEUE {
            sender.send(Bytes::from_static(b"x")).await;
        }
        let more = tokio::time::timeout(std::time::Duration::from_millis(20), sender.send(Bytes::from_static(b"y")));
        assert!(more.await.is_err(), "the queue is full");
        drop(input);
        sender.send(Bytes::from_static(b"z")).await;
    }

    #[tokio::test]
    async fn output_is_cut_into_chunks_and_ends_once() {
        let (commands, mut queue) = mpsc::channel(OUTPUT_QUEUE);
        let mut output = Output::new(7, commands);
        output.write_all(&vec![1; CHUNK + 1]).await.expect("written");
        output.shutdown().await.expect("ended");
        output.shutdown().await.expect("ended already");
        drop(output);
        let mut got = Vec::new();
        while let Some(command) = queue.recv().await {
            got.push(command);
        }
        let sizes: Vec<_> = got.iter().map(|c| if let Command::Data(7, b) = c { b.len() } else { 0 }).collect();
        assert_eq!((sizes, got.last()), (vec![CHUNK, 1, 0], Some(&Command::Fin(7))));
    }
}
