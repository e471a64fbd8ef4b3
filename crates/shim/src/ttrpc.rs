//! Calls over ttrpc, one at a time.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use prost::Message as _;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::address::Address;
use crate::error::{Error, Result};
use crate::frame::{self, HEADER, Header, REMOTE_CLOSED, REQUEST, RESPONSE, Request, Response, Status};

/// Longest message of a shim's that is kept.
const MAX_MESSAGE: usize = 4096;

/// A connection. After a failure that is no [`Error::Status`] nothing can be called any more.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UnixStream,
    service: &'static str,
    stream: u32,
}

impl Client {
    /// Connects within a time: one that does not accept has a queue, which may be full.
    pub(crate) fn connect(address: &Address, service: &'static str, limit: Duration) -> Result<Self> {
        let connected = (|| {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // Of connect(2), too (socket(7), SO_SNDTIMEO).
            set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
            connect(&socket, &SocketAddrUnix::new(address.path())?)?;
            Ok(socket)
        })();
        let failed = |e: rustix::io::Errno| match e {
            rustix::io::Errno::AGAIN => std::io::ErrorKind::TimedOut.into(),
            e => std::io::Error::from(e),
        };
        let connected = connected.map_err(|e| Error::io(format!("connect to the shim at {address}"), failed(e)))?;
        Ok(Self::new(connected.into(), service))
    }

    pub(crate) fn new(socket: UnixStream, service: &'static str) -> Self {
        // Streams that a client opens have odd numbers.
        Self { socket, service, stream: 1 }
    }

    /// Calls a method; without a limit until it answers or its process ends.
    pub(crate) fn call<A: prost::Message + Default>(
        &mut self,
        method: &'static str,
        request: &impl prost::Message,
        limit: Option<Duration>,
    ) -> Result<A> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let stream = self.stream;
        self.stream = stream.wrapping_add(2);
        self.send(stream, method, request, limit).map_err(|e| Error::io(format!("send {method} to the shim"), e))?;
        let (kind, payload) = loop {
            // Answers to other streams came after their time.
            let (answered, kind, payload) = self.receive(method, deadline)?;
            if answered == stream {
                break (kind, payload);
            }
        };
        if kind != RESPONSE {
            return Err(Error::Protocol(format!("a message of type {kind} where the answer to {method} is due")));
        }
        let broken = |e: prost::DecodeError| Error::Protocol(format!("{method}: {e}"));
        let response = Response::decode(payload.as_slice()).map_err(broken)?;
        match response.status {
            Some(Status { code, message }) if code != 0 => {
                Err(Error::Status { method, code, message: message.chars().take(MAX_MESSAGE).collect() })
            }
            _ => A::decode(response.payload.as_slice()).map_err(broken),
        }
    }

    fn send(
        &mut self,
        stream: u32,
        method: &str,
        request: &impl prost::Message,
        limit: Option<Duration>,
    ) -> std::io::Result<()> {
        let request = Request {
            service: self.service.to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: limit.map_or(0, |limit| i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX)),
        };
        let payload = request.encode_to_vec();
        let frame = frame::encode(stream, REQUEST, REMOTE_CLOSED, &payload)?;
        self.socket.set_write_timeout(limit)?;
        self.socket.write_all(&frame)
    }

    fn receive(&mut self, method: &str, deadline: Option<Instant>) -> Result<(u32, u8, Vec<u8>)> {
        let mut header = [0; HEADER];
        self.read(&mut header, method, deadline)?;
        let Header { size, stream, kind } = Header::parse(&header)?;
        let mut payload = vec![0; size];
        self.read(&mut payload, method, deadline)?;
        Ok((stream, kind, payload))
    }

    fn read(&mut self, mut buffer: &mut [u8], method: &str, deadline: Option<Instant>) -> Result<()> {
        let failed = |e: std::io::Error| Error::io(format!("{method}: wait for the shim's answer"), e);
        while !buffer.is_empty() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(failed(std::io::ErrorKind::TimedOut.into()));
            }
            self.socket.set_read_timeout(left).map_err(failed)?;
            match self.socket.read(buffer) {
                Ok(0) => return Err(failed(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(size) => buffer = &mut buffer[size..],
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "ttrpc_tests.rs"]
mod tests;
