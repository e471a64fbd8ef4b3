//! Frames of ttrpc: a length, a stream number (both big-endian), a type, flags, and bytes (`PROTOCOL.md` of
//! github.com/containerd/ttrpc).

use std::io;

use crate::error::{Error, Result};

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 10;
/// Most bytes of a frame's payload.
const MAX_PAYLOAD: usize = 4 << 20;
/// The type of a frame that calls.
pub(crate) const REQUEST: u8 = 1;
/// The type of a frame that answers.
pub(crate) const RESPONSE: u8 = 2;
/// A flag: the sender sends nothing more on this stream.
pub(crate) const REMOTE_CLOSED: u8 = 1;

/// What is before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the payload.
    pub(crate) size: usize,
    /// The call that it belongs to.
    pub(crate) stream: u32,
    /// What it is.
    pub(crate) kind: u8,
}

impl Header {
    /// Refuses payloads that are longer than the protocol allows.
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Result<Self> {
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let size = number(0) as usize;
        if size > MAX_PAYLOAD {
            return Err(Error::Protocol(format!("a message of {size} bytes, more than 4 MiB")));
        }
        Ok(Self { size, stream: number(4), kind: bytes[8] })
    }
}

/// A whole frame.
pub(crate) fn encode(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
    let size = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
    let size = size.ok_or_else(|| io::Error::other(format!("{} bytes: 4 MiB at most", payload.len())))?;
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&size.to_be_bytes());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    #[prost(string, tag = "2")]
    pub(crate) method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
    #[prost(int64, tag = "4")]
    pub(crate) timeout_nano: i64,
}

/// An answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) payload: Vec<u8>,
}

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}
