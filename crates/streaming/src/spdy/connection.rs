//! One connection: reads the client's frames into its streams, and writes what the streams' owners send.
//!
//! Invariants: a stream is in the table while the client may send on it or somebody here holds it, so that the table's
//! size bounds both; the table's lock is never held across an await; the reader waits for a stream's owner only while
//! the client is there; what streams' owners have not taken yet is bounded for the connection (`budget`).

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ProtocolError;
use super::frame::{Decoder, Encoder, Event, goaway, reset};
use super::headers::Headers;
use crate::activity::Activity;
use crate::budget::Budget;
use crate::link::Link;
use crate::pipe::{Command, Commands, Input, InputSender, Output, input};
use crate::socket::Hangup;

/// Bytes that are read at once.
const READ: usize = 64 << 10;
/// Small frames are written together up to about so many bytes.
const WRITE: usize = 64 << 10;

/// A stream that the client opened.
#[derive(Debug)]
pub(crate) struct NewStream {
    /// Its number.
    pub(crate) id: u32,
    /// What it is for.
    pub(crate) headers: Headers,
    /// What the client sends on it.
    pub(crate) input: Input,
    /// Its place in the table.
    pub(crate) held: Held,
}

#[cfg(test)]
impl NewStream {
    /// A stream of no connection.
    pub(crate) fn alone(id: u32) -> Self {
        let held = Held::new(&Arc::default(), id, None);
        Self { id, headers: Headers::default(), input: input().1, held }
    }
}

/// Counts a stream among those of its connection until this is dropped, even when the client sends nothing more on it.
#[derive(Debug)]
pub(crate) struct Held {
    stream: u32,
    table: Arc<Table>,
    reset: CancellationToken,
}

impl Held {
    fn new(table: &Arc<Table>, stream: u32, sender: Option<InputSender>) -> Self {
        let reset = CancellationToken::new();
        let entry = Entry { sender, held: true, reset: reset.clone() };
        table.with(|open| open.insert(stream, entry));
        Self { stream, table: table.clone(), reset }
    }

    /// Ends when the client has given the stream up, be it after the end of what it sent.
    pub(crate) async fn reset(&self) {
        self.reset.cancelled().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.table.change(self.stream, |entry| entry.held = false);
    }
}

/// Which streams a client may open.
pub(crate) struct Accept<F> {
    /// At once.
    pub(crate) limit: usize,
    /// Whether these headers are understood.
    pub(crate) headers: F,
    /// Who takes them; once it is closed, every new stream is refused.
    pub(crate) to: mpsc::Sender<NewStream>,
}

/// A stream that is in use.
#[derive(Debug)]
struct Entry {
    /// To its owner; `None`: the client sends nothing more.
    sender: Option<InputSender>,
    /// Its [`Held`] is there.
    held: bool,
    /// Cancelled when the client gives it up.
    reset: CancellationToken,
}

/// Streams that are in use, by the client or here.
#[derive(Debug, Default)]
struct Table {
    open: Mutex<HashMap<u32, Entry>>,
    /// The last stream that the client opened.
    last: AtomicU32,
}

impl Table {
    fn with<T>(&self, what: impl FnOnce(&mut HashMap<u32, Entry>) -> T) -> T {
        what(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes a stream, which goes when nobody uses it any more.
    fn change(&self, stream: u32, what: impl FnOnce(&mut Entry)) {
        self.with(|open| {
            let Some(entry) = open.get_mut(&stream) else { return };
            what(entry);
            if entry.sender.is_none() && !entry.held {
                open.remove(&stream);
            }
        });
    }
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct Connection {
    link: Link,
    table: Arc<Table>,
}

/// The receiving side.
pub(crate) struct Reader<T> {
    half: ReadHalf<T>,
    buffer: BytesMut,
    decoder: Decoder,
    table: Arc<Table>,
    budget: Budget,
    commands: Commands,
    activity: Activity,
    hangup: Option<Hangup>,
}

/// Serves an upgraded connection, of which `read` is what came behind the request.
pub(crate) fn serve<T>(io: T, read: Bytes, activity: Activity, hangup: Option<Hangup>) -> (Reader<T>, Connection)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (half, writing) = tokio::io::split(io);
    let table = Arc::new(Table::default());
    let seen = activity.clone();
    let link = Link::start(|queue, written| write(writing, queue, [written, seen]));
    let reader = Reader {
        half,
        buffer: BytesMut::from(read),
        decoder: Decoder::new(),
        table: table.clone(),
        budget: Budget::default(),
        commands: link.commands(),
        activity,
        hangup,
    };
    (reader, Connection { link, table })
}

impl Connection {
    /// The queue to the client.
    pub(crate) fn handle(&self) -> Handle {
        Handle { commands: self.link.commands(), table: self.table.clone() }
    }

    /// Sends the last commands, says goodbye, and waits until that has been written.
    pub(crate) async fn finish(&mut self, last: impl IntoIterator<Item = Command>) {
        let close = Command::Close(self.table.last.load(Ordering::Relaxed), goaway::OK);
        self.link.finish(last.into_iter().chain([close])).await;
    }
}

/// Sends on a connection's streams.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    commands: Commands,
    table: Arc<Table>,
}

impl Handle {
    /// A stream's way to the client.
    pub(crate) fn output(&self, stream: u32) -> Output {
        Output::new(stream, self.commands.clone())
    }

    /// Sends a command, unless the connection is gone.
    pub(crate) async fn send(&self, command: Command) {
        let _gone = self.commands.send(command).await;
    }

    /// Gives a stream up in both directions.
    pub(crate) async fn reset(&self, stream: u32) {
        self.table.with(|open| open.remove(&stream));
        self.send(Command::Reset(stream, reset::CANCEL)).await;
    }
}

impl<T: AsyncRead + AsyncWrite> Reader<T> {
    /// Reads until the client has gone, or has broken the protocol.
    pub(crate) async fn run<F: Fn(&Headers) -> bool>(mut self, accept: Accept<F>) {
        let ended = self.read(&accept).await;
        if let Err(error) = &ended {
            tracing::debug!(%error, "SPDY connection ends");
        }
        if let Err(ReadError::Protocol(_)) = ended {
            let close = Command::Close(self.table.last.load(Ordering::Relaxed), goaway::PROTOCOL_ERROR);
            let _full = self.commands.try_send(close);
        }
        // The inputs end.
        self.table.with(HashMap::clear);
    }

    async fn read<F: Fn(&Headers) -> bool>(&mut self, accept: &Accept<F>) -> Result<(), ReadError> {
        loop {
            while let Some(event) = self.decoder.next(&mut self.buffer)? {
                self.activity.touch();
                if !self.handle(event, accept).await? {
                    return Ok(());
                }
            }
            self.buffer.reserve(READ);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Whether to go on.
    async fn handle<F: Fn(&Headers) -> bool>(
        &mut self,
        event: Event,
        accept: &Accept<F>,
    ) -> Result<bool, ProtocolError> {
        match event {
            Event::Open { stream, headers, fin } => {
                if stream.is_multiple_of(2) || stream <= self.table.last.load(Ordering::Relaxed) {
                    return Err(ProtocolError::StreamNumber(stream));
                }
                self.table.last.store(stream, Ordering::Relaxed);
                Ok(self.open(stream, headers, fin, accept).await)
            }
            Event::Data { stream, bytes, fin } => {
                let there = self.deliver(stream, bytes).await;
                self.fin(stream, fin);
                Ok(there)
            }
            Event::Headers { stream, fin } => {
                self.fin(stream, fin);
                Ok(true)
            }
            Event::Reset(stream) => {
                if let Some(Entry { sender, reset, .. }) = self.table.with(|open| open.remove(&stream)) {
                    if let Some(sender) = sender {
                        sender.reset();
                    }
                    reset.cancel();
                }
                Ok(true)
            }
            // Even numbers answer pings of this server, which sends none.
            Event::Ping(number) if !number.is_multiple_of(2) => Ok(self.send(Command::Ping(number)).await),
            Event::Ping(_) | Event::Ignored => Ok(true),
            Event::GoAway => Ok(false),
        }
    }

    async fn open<F: Fn(&Headers) -> bool>(
        &mut self,
        stream: u32,
        headers: Headers,
        fin: bool,
        accept: &Accept<F>,
    ) -> bool {
        let room = self.table.with(|open| open.len() < accept.limit);
        let mut permit = None;
        if room && (accept.headers)(&headers) {
            let there = self.while_there(async { permit = accept.to.reserve().await.ok() }).await;
            if !there {
                return false;
            }
        }
        let Some(permit) = permit else {
            return self.send(Command::Reset(stream, reset::REFUSED)).await;
        };
        let (sender, input) = input();
        let held = Held::new(&self.table, stream, (!fin).then_some(sender));
        // Before the owner can send anything: data of a stream without a reply is dropped by clients.
        let there = self.send(Command::Reply(stream)).await;
        permit.send(NewStream { id: stream, headers, input, held });
        there
    }

    fn fin(&self, stream: u32, fin: bool) {
        if fin {
            self.table.change(stream, |entry| entry.sender = None);
        }
    }

    /// Hands bytes to the stream's owner. Whether the client was there all the time.
    async fn deliver(&self, stream: u32, mut bytes: Bytes) -> bool {
        let sender = self.table.with(|open| open.get(&stream).and_then(|entry| entry.sender.clone()));
        let Some(sender) = sender else { return true };
        let hand_over = async {
            while !bytes.is_empty() && !sender.is_closed() {
                let piece = self.budget.piece(&sender.allowance, &mut bytes).await;
                sender.send(piece).await;
            }
        };
        self.while_there(hand_over).await
    }

    async fn send(&self, command: Command) -> bool {
        self.while_there(async {
            let _gone = self.commands.send(command).await;
        })
        .await
    }

    async fn while_there(&self, wait: impl Future<Output = ()>) -> bool {
        let Some(hangup) = &self.hangup else {
            wait.await;
            return true;
        };
        tokio::select! {
            biased;
            () = wait => true,
            () = hangup.wait() => false,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("read: {0}")]
    Io(#[from] std::io::Error),
}

/// Writes until the connection is closed by this side, or broken.
async fn write<T: AsyncWrite>(mut half: WriteHalf<T>, mut queue: mpsc::Receiver<Command>, touched: [Activity; 2]) {
    let mut encoder = Encoder::default();
    let mut buffer = BytesMut::new();
    let mut open = true;
    while open {
        let mut next = queue.recv().await;
        while let Some(command) = next {
            encoder.put(&command, &mut buffer);
            if let Command::Data(_, bytes) = &command {
                buffer.extend_from_slice(bytes);
            }
            open = !matches!(command, Command::Close(..));
            next = if open && buffer.len() < WRITE { queue.try_recv().ok() } else { None };
        }
        if buffer.is_empty() {
            // Nobody is left who could send.
            break;
        }
        if half.write_all_buf(&mut buffer).await.is_err() || half.flush().await.is_err() {
            return;
        }
        touched.iter().for_each(Activity::touch);
    }
    let _gone = half.shutdown().await;
}
