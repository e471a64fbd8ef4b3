//! Calls over ttrpc, one at a time: a frame is a length, a stream number (both big-endian), a type, flags, and bytes
//! (`PROTOCOL.md` of github.com/containerd/ttrpc).

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use prost::Message as _;

use crate::address::Address;
use crate::error::{Error, Result};

/// Bytes of a frame's header.
const HEADER: usize = 10;
/// Most bytes of a frame's payload.
const MAX_PAYLOAD: usize = 4 << 20;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
/// The caller sends nothing more on this stream.
const REMOTE_CLOSED: u8 = 1;
/// Longest message of a shim's that is kept.
const MAX_MESSAGE: usize = 4096;

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
    #[prost(int64, tag = "4")]
    timeout_nano: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// A connection. After a failure that is no [`Error::Status`] nothing can be called any more.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UnixStream,
    service: &'static str,
    stream: u32,
}

impl Client {
    pub(crate) fn connect(address: &Address, service: &'static str) -> Result<Self> {
        let failed = |e| Error::io(format!("connect to the shim at {address}"), e);
        Ok(Self::new(UnixStream::connect(address.path()).map_err(failed)?, service))
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
        let size = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
        let size = size.ok_or_else(|| std::io::Error::other(format!("{} bytes: 4 MiB at most", payload.len())))?;
        let mut frame = Vec::with_capacity(HEADER + payload.len());
        frame.extend_from_slice(&size.to_be_bytes());
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(&[REQUEST, REMOTE_CLOSED]);
        frame.extend_from_slice(&payload);
        self.socket.set_write_timeout(limit)?;
        self.socket.write_all(&frame)
    }

    fn receive(&mut self, method: &str, deadline: Option<Instant>) -> Result<(u32, u8, Vec<u8>)> {
        let mut header = [0; HEADER];
        self.read(&mut header, method, deadline)?;
        let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let size = number(0) as usize;
        if size > MAX_PAYLOAD {
            return Err(Error::Protocol(format!("a message of {size} bytes, more than 4 MiB")));
        }
        let mut payload = vec![0; size];
        self.read(&mut payload, method, deadline)?;
        Ok((number(4), header[8], payload))
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
