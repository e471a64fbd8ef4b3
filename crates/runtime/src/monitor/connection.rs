//! One connection: packets go out from any task, one task matches what comes in.
//!
//! Invariant: `waiting` is `None` once the connection has ended, so that no request can wait for an answer that
//! nobody will bring.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cricket_wire::packet::{self, MAX_BYTES, PacketError};
use cricket_wire::{Cancel, Request, RequestKind, Response, ResponseKind};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::{MonitorError, MonitorEvent};

/// An answer and its descriptors.
pub(super) type Answer = (ResponseKind, Vec<OwnedFd>);

/// Registers a descriptor with the runtime.
#[expect(
    deprecated,
    reason = "its replacement is unsafe code for types whose descriptor may change; OwnedFd's never does"
)]
pub(super) fn register(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// The state that callers and the reading task share.
pub(super) struct Connection {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<Option<HashMap<u64, mpsc::UnboundedSender<Answer>>>>,
}

impl Connection {
    /// Takes a connected, non-blocking `SOCK_SEQPACKET` socket.
    pub(super) fn new(socket: OwnedFd) -> Result<Self, MonitorError> {
        let socket = register(socket).map_err(MonitorError::io("register the monitor's socket"))?;
        Ok(Self { socket, next: AtomicU64::new(1), waiting: Mutex::new(Some(HashMap::new())) })
    }

    /// Sends a request; what it is answered comes out of the [`Pending`].
    pub(super) async fn request(
        self: &Arc<Self>,
        kind: RequestKind,
        fds: &[BorrowedFd<'_>],
        cancel: bool,
    ) -> Result<Pending, MonitorError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::unbounded_channel();
        self.with_waiting(|waiting| waiting.insert(id, sender)).ok_or(MonitorError::Lost)?;
        let mut pending = Pending { connection: self.clone(), id, answers, cancel: false };
        self.send(&Request { id, kind: Some(kind) }, fds).await?;
        pending.cancel = cancel;
        Ok(pending)
    }

    async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), MonitorError> {
        loop {
            let mut guard = self.socket.ready(Interest::WRITABLE).await.map_err(|_| MonitorError::Lost)?;
            match packet::send(self.socket.get_ref(), request, fds) {
                Err(PacketError::WouldBlock) => guard.clear_ready_matching(tokio::io::Ready::WRITABLE),
                result => return Ok(result?),
            }
        }
    }

    fn with_waiting<T>(&self, f: impl FnOnce(&mut HashMap<u64, mpsc::UnboundedSender<Answer>>) -> T) -> Option<T> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(f)
    }

    /// Hands out what comes in until the connection ends, then says so to everybody.
    pub(super) async fn run(self: Arc<Self>, events: mpsc::UnboundedSender<MonitorEvent>) {
        let end = loop {
            let Ok(mut guard) = self.socket.ready(Interest::READABLE).await else { break PacketError::Closed };
            match packet::receive_sized::<Response>(self.socket.get_ref(), MAX_BYTES) {
                Ok((response, fds)) => self.dispatch(response, fds, &events),
                Err(PacketError::WouldBlock) => guard.clear_ready_matching(tokio::io::Ready::READABLE),
                Err(error) => break error,
            }
        };
        tracing::debug!(%end, "the connection to a monitor ended");
        // Dropping the senders fails the requests; before Gone, so that nobody hears of it and asks again in vain.
        drop(self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = events.send(MonitorEvent::Gone);
    }

    fn dispatch(&self, response: Response, fds: Vec<OwnedFd>, events: &mpsc::UnboundedSender<MonitorEvent>) {
        match response.kind {
            None => tracing::debug!(id = response.id, "a newer monitor says something unknown"),
            Some(ResponseKind::Exited(exited)) => {
                if let Some(facts) = exited.facts {
                    let _ = events.send(MonitorEvent::Exited { container: exited.container_id, facts: facts.into() });
                }
            }
            Some(kind) => {
                // Nobody waits when the caller has gone; the descriptors are closed.
                if let Some(Some(sender)) = self.with_waiting(|waiting| waiting.get(&response.id).cloned()) {
                    let _ = sender.send((kind, fds));
                }
            }
        }
    }
}

/// A request in flight. Dropping it forgets the answer, and cancels the request if it is one of those that can be.
pub(super) struct Pending {
    connection: Arc<Connection>,
    id: u64,
    answers: mpsc::UnboundedReceiver<Answer>,
    cancel: bool,
}

impl Pending {
    /// The next answer; a refusal is an error.
    pub(super) async fn next(&mut self) -> Result<Answer, MonitorError> {
        match self.answers.recv().await {
            None => Err(MonitorError::Lost),
            Some((ResponseKind::Failed(failed), _)) => {
                self.cancel = false;
                Err(failed.into())
            }
            Some(answer) => Ok(answer),
        }
    }

    /// The request is answered: there is nothing to cancel any more.
    pub(super) fn finish(mut self) {
        self.cancel = false;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let id = self.id;
        self.connection.with_waiting(|waiting| waiting.remove(&id));
        if !self.cancel {
            return;
        }
        let request = Request { id: 0, kind: Some(RequestKind::Cancel(Cancel { request: id })) };
        let sent = packet::send(self.connection.socket.get_ref().as_fd(), &request, &[]);
        if let (Err(PacketError::WouldBlock), Ok(runtime)) = (sent, tokio::runtime::Handle::try_current()) {
            let connection = self.connection.clone();
            runtime.spawn(async move { connection.send(&request, &[]).await });
        }
    }
}
