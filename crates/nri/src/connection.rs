//! A plugin's socket: calls out, calls in, and its end.
//!
//! One task reads, one writes. What waits to be written is bounded: a plugin that does not read loses its connection.
//! The plugin's own calls run beside each other up to a bound.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{CallError, Status};
use crate::frame::{Demux, Lane, Message, encode};
use crate::runtime::Future;
use crate::ttrpc::{REMOTE_CLOSED, REQUEST, RESOURCE_EXHAUSTED, RESPONSE, Request, Response};

/// Messages that may wait until the plugin reads.
const QUEUE: usize = 32;
/// Calls of the plugin that are answered at the same time.
const CALLS: usize = 16;
/// Bytes read at once.
const PORTION: usize = 64 << 10;

/// A call of the plugin.
pub(crate) struct Call {
    /// Service and method, joined by a slash.
    pub(crate) method: String,
    pub(crate) payload: Vec<u8>,
    /// An answer of the plugin's came before: it was called, and has done with that.
    pub(crate) answered: bool,
}

/// Answers the plugin's calls.
pub(crate) type Serve = Arc<dyn Fn(Call) -> Future<Result<Vec<u8>, Status>> + Send + Sync>;

/// A connection. It ends when this is dropped, when [`Connection::close`] is called, or when the plugin ends it.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    calls: Mutex<Calls>,
    answered: AtomicBool,
    closed: CancellationToken,
}

/// Stream numbers grow in the order in which requests are sent, so both happen under one lock.
struct Calls {
    next: u32,
    waiting: HashMap<u32, oneshot::Sender<Result<Response, CallError>>>,
    out: mpsc::Sender<Vec<u8>>,
}

impl Connection {
    /// Takes the socket over.
    pub(crate) fn start(socket: UnixStream, serve: Serve) -> Self {
        let (out, queue) = mpsc::channel(QUEUE);
        let closed = CancellationToken::new();
        let calls = Mutex::new(Calls { next: 1, waiting: HashMap::new(), out: out.clone() });
        let shared = Arc::new(Shared { calls, answered: AtomicBool::new(false), closed: closed.clone() });
        let (read, write) = socket.into_split();
        tokio::spawn(write_all(write, queue, closed.clone()));
        tokio::spawn({
            let shared = shared.clone();
            async move {
                tokio::select! {
                    () = shared.closed.cancelled() => {}
                    end = read_all(read, &shared, serve, out) => {
                        if let Err(reason) = end {
                            tracing::warn!(reason, "NRI connection closed: protocol error");
                        }
                    }
                }
                shared.close();
            }
        });
        Self { shared, _end: closed.drop_guard() }
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Ends it.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// What is cancelled when it has ended.
    pub(crate) fn end(&self) -> CancellationToken {
        self.shared.closed.clone()
    }

    /// Returns when it has ended.
    pub(crate) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// Calls the plugin.
    pub(crate) async fn call<Q: prost::Message, A: prost::Message + Default>(
        &self,
        service: &str,
        method: &str,
        request: &Q,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX),
        };
        let (stream, answer) = self.send(request.encode_to_vec())?;
        let response = match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(response)) => response?,
            Ok(Err(_)) => return Err(CallError::Closed),
            Err(_) => {
                self.shared.calls().waiting.remove(&stream);
                return Err(CallError::Timeout(timeout));
            }
        };
        A::decode(response.into_result()?.as_slice()).map_err(|e| CallError::Protocol(e.to_string()))
    }

    fn send(&self, payload: Vec<u8>) -> Result<(u32, oneshot::Receiver<Result<Response, CallError>>), CallError> {
        let (sender, receiver) = oneshot::channel();
        let mut calls = self.shared.calls();
        if self.is_closed() {
            return Err(CallError::Closed);
        }
        let stream = calls.next;
        let message = Message { lane: Lane::Plugin, stream, kind: REQUEST, flags: REMOTE_CLOSED, payload };
        let bytes = encode(&message).map_err(CallError::TooLarge)?;
        // Streams that a client opens have odd numbers.
        calls.next = stream.wrapping_add(2);
        if calls.out.try_send(bytes).is_err() {
            drop(calls);
            self.close();
            return Err(CallError::Protocol(format!("{QUEUE} messages wait and it does not read them")));
        }
        calls.waiting.insert(stream, sender);
        Ok((stream, receiver))
    }
}

impl Shared {
    fn calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.closed.cancel();
        // Whoever waits sees that its sender is gone.
        self.calls().waiting.clear();
    }

    fn answer(&self, message: Message) -> Result<(), String> {
        let Some(sender) = self.calls().waiting.remove(&message.stream) else {
            // It came after its deadline.
            return Ok(());
        };
        self.answered.store(true, Relaxed);
        let response = match message.kind {
            RESPONSE => Response::decode(message.payload.as_slice()).map_err(|e| e.to_string()),
            kind => Err(format!("a message of type {kind} where an answer is due")),
        };
        let failed = response.as_ref().err().cloned();
        let _ = sender.send(response.map_err(CallError::Protocol));
        failed.map_or(Ok(()), Err)
    }
}

async fn write_all(mut socket: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>, closed: CancellationToken) {
    let write = async {
        while let Some(bytes) = queue.recv().await {
            socket.write_all(&bytes).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::select! {
        () = closed.cancelled() => {}
        _ = write => {}
    }
    closed.cancel();
}

/// Reads until the end; `Err` says what the plugin did wrong.
async fn read_all(
    mut socket: OwnedReadHalf,
    shared: &Arc<Shared>,
    serve: Serve,
    out: mpsc::Sender<Vec<u8>>,
) -> Result<(), String> {
    let slots = Arc::new(Semaphore::new(CALLS));
    let (mut demux, mut portion) = (Demux::default(), vec![0; PORTION]);
    let mut messages = Vec::new();
    loop {
        let size = match socket.read(&mut portion).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(size) => size,
        };
        demux.feed(&portion[..size], &mut messages).map_err(|e| e.to_string())?;
        for message in messages.drain(..) {
            match message.lane {
                Lane::Plugin => shared.answer(message)?,
                Lane::Runtime => receive(message, &slots, &serve, &out, shared)?,
            }
        }
    }
}

/// Starts to answer one of the plugin's calls.
fn receive(
    message: Message,
    slots: &Arc<Semaphore>,
    serve: &Serve,
    out: &mpsc::Sender<Vec<u8>>,
    shared: &Shared,
) -> Result<(), String> {
    if message.kind != REQUEST {
        return Err(format!("a message of type {} where a request is due", message.kind));
    }
    let request = Request::decode(message.payload.as_slice()).map_err(|e| e.to_string())?;
    let (stream, out) = (message.stream, out.clone());
    let Ok(slot) = slots.clone().try_acquire_owned() else {
        let busy = Status { code: RESOURCE_EXHAUSTED, message: format!("{CALLS} calls are being answered") };
        return reply(stream, Err(busy)).map_or(Ok(()), |bytes| {
            out.try_send(bytes).map_err(|_| "calls without end whose answers it does not read".to_owned())
        });
    };
    let call = serve(Call {
        method: format!("{}/{}", request.service, request.method),
        payload: request.payload,
        answered: shared.answered.load(Relaxed),
    });
    let closed = shared.closed.clone();
    tokio::spawn(async move {
        let _slot = slot;
        let answer = async {
            if let Some(bytes) = reply(stream, call.await) {
                let _ = out.send(bytes).await;
            }
        };
        tokio::select! {
            () = closed.cancelled() => {}
            () = answer => {}
        }
    });
    Ok(())
}

fn reply(stream: u32, result: Result<Vec<u8>, Status>) -> Option<Vec<u8>> {
    let message = |result| {
        let payload = Response::of(result).encode_to_vec();
        encode(&Message { lane: Lane::Runtime, stream, kind: RESPONSE, flags: 0, payload })
    };
    let too_large = |size| Status { code: RESOURCE_EXHAUSTED, message: format!("an answer of {size} bytes") };
    message(result).or_else(|size| message(Err(too_large(size)))).ok()
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
