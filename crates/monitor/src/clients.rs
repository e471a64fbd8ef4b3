//! Connections: any number over time, each of the superuser.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use cricket_wire::packet::{self, MAX_BYTES, PacketError};
use cricket_wire::{Code, Failed, Request, Response, ResponseKind};
use rustix::net::SocketFlags;
use rustix::net::sockopt::socket_peercred;

use crate::supervisor::{Source, Supervisor};

/// Bytes that wait for a daemon that does not read; then the connection is cut, and the daemon lists when it is back.
const MAX_QUEUED: usize = 1 << 20;
/// Requests from one connection before the others have their turn.
const MAX_ROUND: usize = 16;

/// One connection.
pub(crate) struct Client {
    socket: OwnedFd,
    token: u64,
    queue: VecDeque<(Vec<u8>, Vec<Arc<OwnedFd>>)>,
    queued: usize,
}

impl Client {
    /// Whether everything is sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    fn send(&mut self, bytes: Vec<u8>, fds: Vec<Arc<OwnedFd>>) -> Result<(), PacketError> {
        if self.queue.is_empty() {
            match transmit(&self.socket, &bytes, &fds) {
                Err(PacketError::WouldBlock) => {}
                result => return result,
            }
        }
        self.queued += bytes.len() + 1;
        self.queue.push_back((bytes, fds));
        if self.queued > MAX_QUEUED { Err(PacketError::TooLarge) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), PacketError> {
        while let Some((bytes, fds)) = self.queue.front() {
            match transmit(&self.socket, bytes, fds) {
                Err(PacketError::WouldBlock) => return Ok(()),
                result => result?,
            }
            self.queued -= bytes.len() + 1;
            self.queue.pop_front();
        }
        Ok(())
    }
}

fn transmit(socket: &OwnedFd, bytes: &[u8], fds: &[Arc<OwnedFd>]) -> Result<(), PacketError> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    packet::send_bytes(socket, bytes, &fds)
}

impl Supervisor {
    /// Takes everybody who waits at the listener.
    pub(crate) fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            let superuser = socket_peercred(&socket).is_ok_and(|peer| peer.uid.is_root());
            if !superuser {
                continue;
            }
            let key = self.next();
            if let Ok(token) = self.watch(&socket, Source::Client(key)) {
                self.clients.insert(key, Client { socket, token, queue: VecDeque::new(), queued: 0 });
            }
        }
    }

    /// A connection can be read or written.
    pub(crate) fn client_ready(&mut self, key: u64) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        if client.flush().is_err() {
            return self.disconnect(key);
        }
        for _ in 0..MAX_ROUND {
            let Some(client) = self.clients.get(&key) else { return };
            match packet::receive_sized::<Request>(&client.socket, MAX_BYTES) {
                Ok((request, fds)) => self.request(key, request, fds),
                Err(PacketError::WouldBlock) => break,
                Err(_) => return self.disconnect(key),
            }
        }
        self.adjust(key);
    }

    /// Waits for room in the socket exactly while there is something to send.
    fn adjust(&self, key: u64) {
        if let Some(client) = self.clients.get(&key) {
            self.watch_writable(&client.socket, client.token, !client.queue.is_empty());
        }
    }

    fn disconnect(&mut self, key: u64) {
        if let Some(client) = self.clients.remove(&key) {
            self.unwatch(&client.socket, client.token);
        }
        self.tickets.retain(|_, (client, _)| *client != key);
        self.abandon_execs(key);
    }

    /// Answers a request. A connection that has gone is no error.
    pub(crate) fn answer(&mut self, client: u64, id: u64, kind: ResponseKind, fds: Vec<Arc<OwnedFd>>) {
        use prost::Message as _;
        let mut bytes = Response { id, kind: Some(kind) }.encode_to_vec();
        if bytes.len() > MAX_BYTES || fds.len() > packet::MAX_FDS {
            let failed = failed(Code::Host, "the answer does not fit into a packet");
            bytes = Response { id, kind: Some(failed) }.encode_to_vec();
        }
        let Some(connection) = self.clients.get_mut(&client) else { return };
        if connection.send(bytes, fds).is_err() {
            self.disconnect(client);
        } else {
            self.adjust(client);
        }
    }

    /// Refuses a request.
    pub(crate) fn refuse(&mut self, client: u64, id: u64, code: Code, message: impl Into<String>) {
        self.answer(client, id, failed(code, message), Vec::new());
    }

    /// Tells every connection.
    pub(crate) fn broadcast(&mut self, kind: &ResponseKind) {
        let clients: Vec<u64> = self.clients.keys().copied().collect();
        for client in clients {
            self.answer(client, 0, kind.clone(), Vec::new());
        }
    }
}

/// An answer that says no.
pub(crate) fn failed(code: Code, message: impl Into<String>) -> ResponseKind {
    ResponseKind::Failed(Failed { code: code.into(), message: message.into(), failure: None })
}
