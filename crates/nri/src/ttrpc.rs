//! The messages of ttrpc (containerd's gRPC without HTTP), as far as unary calls go; see its PROTOCOL.md.
//!
//! A message is a header of ten bytes (length, stream, type, flags; big-endian) and a protobuf payload. The crate `ttrpc`
//! is not used: it wants a transport of its own where NRI has two connections in one socket, brings a second protobuf
//! runtime, and sizes buffers by what the peer claims.

use crate::error::Status;

/// Bytes of a message's header.
pub(crate) const HEADER: usize = 10;
/// Most bytes of a message's payload.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// Message types.
pub(crate) const REQUEST: u8 = 1;
pub(crate) const RESPONSE: u8 = 2;
/// A request's flag: no more messages follow on the stream.
pub(crate) const REMOTE_CLOSED: u8 = 1;

/// gRPC's status codes that matter here.
pub(crate) const OK: i32 = 0;
pub(crate) const INVALID_ARGUMENT: i32 = 3;
pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
pub(crate) const FAILED_PRECONDITION: i32 = 9;
pub(crate) const UNIMPLEMENTED: i32 = 12;

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

/// A call's answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<WireStatus>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) payload: Vec<u8>,
}

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

impl Response {
    /// The payload, or the status that is there instead.
    pub(crate) fn into_result(self) -> Result<Vec<u8>, Status> {
        match self.status {
            Some(status) if status.code != OK => Err(Status { code: status.code, message: status.message }),
            _ => Ok(self.payload),
        }
    }

    /// The answer that carries a result.
    pub(crate) fn of(result: Result<Vec<u8>, Status>) -> Self {
        match result {
            Ok(payload) => Self { status: None, payload },
            Err(Status { code, message }) => Self { status: Some(WireStatus { code, message }), payload: Vec::new() },
        }
    }
}
