//! Frames: from the client's bytes to events, from commands to bytes (draft-mbelshe-httpbis-spdy-00, 2.2 and 2.6).
//!
//! Invariants: a DATA frame is never held as a whole, its bytes are passed on as they come; a control frame is at most
//! [`MAX_CONTROL`] bytes long; nothing that a client sends makes the decoder panic or allocate more.

use bytes::{Bytes, BytesMut};

use super::ProtocolError;
use super::headers::{Deflater, Headers, Inflater};
use crate::pipe::Command;

/// Bytes of a control frame behind its head.
pub(crate) const MAX_CONTROL: usize = 64 << 10;
/// A DATA frame's length has 24 bits.
pub(crate) const MAX_DATA: usize = (1 << 24) - 1;
/// The head of every frame.
const HEAD: usize = 8;
const CONTROL: u32 = 1 << 31;
const ID_MASK: u32 = !CONTROL;
const VERSION: u32 = 3;
const FLAG_FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Reasons of RST_STREAM.
pub(crate) mod reset {
    pub(crate) const REFUSED: u32 = 3;
    pub(crate) const CANCEL: u32 = 5;
}

/// Reasons of GOAWAY.
pub(crate) mod goaway {
    pub(crate) const OK: u32 = 0;
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
}

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It opens a stream; `fin`: it will send nothing on it.
    Open {
        /// Odd.
        stream: u32,
        /// What the stream is for.
        headers: Headers,
        /// Closed from the beginning.
        fin: bool,
    },
    /// Bytes, a frame's or a part of one's.
    Data {
        /// Of this stream.
        stream: u32,
        /// At most what was read at once.
        bytes: Bytes,
        /// The last ones.
        fin: bool,
    },
    /// More headers, which nobody uses; `fin` as for data.
    Headers {
        /// Of this stream.
        stream: u32,
        /// The client will send nothing more.
        fin: bool,
    },
    /// The client gives a stream up.
    Reset(u32),
    /// To be answered with the same number if that is odd.
    Ping(u32),
    /// The client will open no more streams.
    GoAway,
    /// A frame that has no consequence here: SETTINGS and WINDOW_UPDATE, for this server sends as fast as TCP lets it
    /// and reads as fast as the streams' readers do, like Go's clients; and frames that the protocol does not know.
    Ignored,
}

/// Bytes of a DATA frame that are still to come.
struct Rest {
    stream: u32,
    left: usize,
    fin: bool,
}

/// Reads a client's frames.
pub(crate) struct Decoder {
    inflater: Inflater,
    rest: Option<Rest>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { inflater: Inflater::new(), rest: None }
    }

    /// The next event of the bytes in `buffer`; `None` until more have been read into it.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, ProtocolError> {
        if let Some(rest) = &mut self.rest {
            if buffer.is_empty() {
                return Ok(None);
            }
            let bytes = buffer.split_to(rest.left.min(buffer.len())).freeze();
            rest.left -= bytes.len();
            let event = Event::Data { stream: rest.stream, fin: rest.fin && rest.left == 0, bytes };
            if rest.left == 0 {
                self.rest = None;
            }
            return Ok(Some(event));
        }
        let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let [a, b, c, d, flags, e, f, g] = *head;
        let (word, length) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([0, e, f, g]) as usize);
        if word & CONTROL == 0 {
            return self.data(buffer, word, flags & FLAG_FIN != 0, length);
        }
        let (version, kind) = ((word & ID_MASK) >> 16, (word & 0xffff) as u16);
        if version != VERSION {
            return Err(ProtocolError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(ProtocolError::ControlFrameTooLarge { kind, length });
        }
        if buffer.len() < HEAD + length {
            return Ok(None);
        }
        let frame = buffer.split_to(HEAD + length);
        self.control(kind, flags & FLAG_FIN != 0, &frame[HEAD..]).map(Some)
    }

    fn data(
        &mut self,
        buffer: &mut BytesMut,
        stream: u32,
        fin: bool,
        length: usize,
    ) -> Result<Option<Event>, ProtocolError> {
        if stream == 0 {
            return Err(ProtocolError::StreamZero);
        }
        let _head = buffer.split_to(HEAD);
        if length == 0 {
            return Ok(Some(Event::Data { stream, bytes: Bytes::new(), fin }));
        }
        self.rest = Some(Rest { stream, left: length, fin });
        self.next(buffer)
    }

    fn control(&mut self, kind: u16, fin: bool, body: &[u8]) -> Result<Event, ProtocolError> {
        let short = || ProtocolError::ControlFrameTooShort { kind, length: body.len() };
        let word = |at: usize| body.get(at..).and_then(|b| b.first_chunk()).map(|b| u32::from_be_bytes(*b));
        let id = || match word(0).ok_or_else(short)? & ID_MASK {
            0 => Err(ProtocolError::StreamZero),
            id => Ok(id),
        };
        Ok(match kind {
            // Stream, associated stream, priority and slot.
            SYN_STREAM => {
                let headers = self.inflater.headers(body.get(10..).ok_or_else(short)?)?;
                Event::Open { stream: id()?, headers, fin }
            }
            SYN_REPLY | HEADERS => {
                self.inflater.headers(body.get(4..).ok_or_else(short)?)?;
                Event::Headers { stream: id()?, fin }
            }
            RST_STREAM => {
                word(4).ok_or_else(short)?;
                Event::Reset(id()?)
            }
            PING => Event::Ping(word(0).ok_or_else(short)?),
            GOAWAY => {
                word(4).ok_or_else(short)?;
                Event::GoAway
            }
            SETTINGS => {
                let settings = word(0).ok_or_else(short)? as usize;
                if settings > (body.len() - 4) / 8 {
                    return Err(short());
                }
                Event::Ignored
            }
            WINDOW_UPDATE => {
                word(4).ok_or_else(short)?;
                Event::Ignored
            }
            _ => Event::Ignored,
        })
    }
}

/// Writes this server's frames.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    /// Puts the frame of a command behind what is in `to`. The bytes of data are left to the caller, who may write
    /// them from where they are.
    pub(crate) fn put(&mut self, command: &Command, to: &mut BytesMut) {
        match command {
            Command::Data(stream, bytes) => {
                debug_assert!(bytes.len() <= MAX_DATA);
                to.extend_from_slice(&stream.to_be_bytes());
                to.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            }
            Command::Fin(stream) => {
                to.extend_from_slice(&stream.to_be_bytes());
                to.extend_from_slice(&[FLAG_FIN, 0, 0, 0]);
            }
            Command::Reply(stream) => {
                let block = self.deflater.empty();
                control(to, SYN_REPLY, 4 + block.len());
                to.extend_from_slice(&stream.to_be_bytes());
                to.extend_from_slice(&block);
            }
            Command::Reset(stream, reason) => words(to, RST_STREAM, &[*stream, *reason]),
            Command::Ping(number) => words(to, PING, &[*number]),
            Command::Close(last, reason) => words(to, GOAWAY, &[*last, *reason]),
        }
    }
}

fn control(to: &mut BytesMut, kind: u16, length: usize) {
    to.extend_from_slice(&(CONTROL | VERSION << 16 | u32::from(kind)).to_be_bytes());
    to.extend_from_slice(&(length as u32).to_be_bytes());
}

fn words(to: &mut BytesMut, kind: u16, words: &[u32]) {
    control(to, kind, 4 * words.len());
    for word in words {
        to.extend_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
