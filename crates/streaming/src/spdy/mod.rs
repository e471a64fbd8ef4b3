//! SPDY/3.1, the part of it that Kubernetes' clients speak: an upgraded HTTP/1.1 connection on which the client opens
//! streams, each with headers that say what it is for.
//!
//! ```text
//! bytes ─▶ Decoder (frame.rs) ─▶ Event ─▶ Reader (connection.rs) ─▶ new streams, Input of each
//! Output, Reader ─▶ Command ─▶ writer task ─▶ Encoder (frame.rs) ─▶ bytes
//! ```
//!
//! Flow control is TCP's: Go's clients send no WINDOW_UPDATE and heed none, so a slow stream slows its connection.

mod connection;
mod dictionary;
mod frame;
mod headers;

pub(crate) use connection::{Accept, Connection, Handle, NewStream, Reader, serve};
pub(crate) use frame::{Decoder, Event};
pub(crate) use headers::{Headers, Inflater};

/// What a client must not send: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// Only version 3 has this framing.
    #[error("frame of SPDY version {0}, want 3")]
    Version(u32),
    /// Streams are counted from 1.
    #[error("frame of stream 0")]
    StreamZero,
    /// A client's streams have odd numbers that grow.
    #[error("stream {0} is even or was opened before")]
    StreamNumber(u32),
    /// See [`frame::MAX_CONTROL`].
    #[error("control frame {kind} of {length} bytes is too large")]
    ControlFrameTooLarge {
        /// Its type.
        kind: u16,
        /// Bytes behind its head.
        length: usize,
    },
    /// A body without what its type has.
    #[error("control frame {kind} of {length} bytes is too short")]
    ControlFrameTooShort {
        /// Its type.
        kind: u16,
        /// Bytes behind its head.
        length: usize,
    },
    /// What is wrong with the block.
    #[error("header block {0}")]
    HeaderBlock(&'static str),
    /// A block claims so many pairs.
    #[error("header block of {0} pairs")]
    TooManyHeaders(u32),
    /// A block names a header twice.
    #[error("header block names a header twice")]
    DuplicateHeader,
}
