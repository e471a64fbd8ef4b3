//! Two connections over one socket: each frame is a connection's number, a length (both big-endian) and bytes.
//!
//! Numbers are fixed: calls to the plugin go over 1, calls of the plugin over 2; frames of any other number are skipped,
//! as the Go side does. The reader takes bytes in any portions and keeps at most two messages; how much a peer claims
//! reserves nothing.

use crate::ttrpc;

/// Bytes of a frame's header.
const HEADER: usize = 8;
/// Most bytes in a frame: one whole message.
pub(crate) const MAX_FRAME: usize = ttrpc::HEADER + ttrpc::MAX_MESSAGE;
/// The other side reads a message's header through a buffer of this many bytes and fails when a frame does not fit.
const HEADER_READ: usize = 4096;
/// Space that a claimed length may reserve.
const RESERVE: usize = 64 << 10;

/// A connection within the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The runtime calls, the plugin answers.
    Plugin,
    /// The plugin calls, the runtime answers.
    Runtime,
}

impl Lane {
    fn number(self) -> u32 {
        match self {
            Self::Plugin => 1,
            Self::Runtime => 2,
        }
    }

    fn of(number: u32) -> Option<Self> {
        [Self::Plugin, Self::Runtime].into_iter().find(|lane| lane.number() == number)
    }
}

/// One ttrpc message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) lane: Lane,
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

/// What a peer sent that no message can begin with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a frame of {0} bytes, more than {MAX_FRAME}")]
    Frame(u32),
    #[error("a message of {0} bytes, more than 4 MiB")]
    Message(u32),
}

/// The bytes of a message on the socket. `Err` is the length of a payload that is too large.
pub(crate) fn encode(message: &Message) -> Result<Vec<u8>, usize> {
    let payload = &message.payload;
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= ttrpc::MAX_MESSAGE);
    let length = length.ok_or(payload.len())?;
    let mut header = [0; ttrpc::HEADER];
    header[..4].copy_from_slice(&length.to_be_bytes());
    header[4..8].copy_from_slice(&message.stream.to_be_bytes());
    header[8] = message.kind;
    header[9] = message.flags;
    let mut out = Vec::with_capacity(2 * HEADER + header.len() + payload.len());
    let mut frame = |parts: &[&[u8]]| {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        out.extend_from_slice(&message.lane.number().to_be_bytes());
        // At most MAX_FRAME, which fits.
        out.extend_from_slice(&(size as u32).to_be_bytes());
        parts.iter().for_each(|part| out.extend_from_slice(part));
    };
    if header.len() + payload.len() <= HEADER_READ {
        frame(&[&header, payload]);
    } else {
        frame(&[&header]);
        frame(&[payload]);
    }
    Ok(out)
}

/// Puts messages together out of the socket's bytes.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    /// The frame's header as far as it is there.
    header: Vec<u8>,
    /// Bytes of the current frame that are to come.
    left: usize,
    lane: Option<Lane>,
    plugin: Assembly,
    runtime: Assembly,
}

impl Demux {
    /// Takes the next bytes and adds what they complete to `out`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<Message>) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = take(&mut self.header, HEADER, bytes);
                let Some((lane, size)) = numbers(&self.header, HEADER) else { break };
                if size as usize > MAX_FRAME {
                    return Err(Malformed::Frame(size));
                }
                self.header.clear();
                (self.lane, self.left) = (Lane::of(lane), size as usize);
                continue;
            }
            let (now, later) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= now.len();
            bytes = later;
            match self.lane {
                Some(Lane::Plugin) => self.plugin.feed(Lane::Plugin, now, out)?,
                Some(Lane::Runtime) => self.runtime.feed(Lane::Runtime, now, out)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// The message that one connection is in the middle of.
#[derive(Debug, Default)]
struct Assembly {
    header: Vec<u8>,
    payload: Vec<u8>,
}

impl Assembly {
    fn feed(&mut self, lane: Lane, mut bytes: &[u8], out: &mut Vec<Message>) -> Result<(), Malformed> {
        loop {
            bytes = take(&mut self.header, ttrpc::HEADER, bytes);
            let Some((size, stream)) = numbers(&self.header, ttrpc::HEADER) else { return Ok(()) };
            if size as usize > ttrpc::MAX_MESSAGE {
                return Err(Malformed::Message(size));
            }
            if self.payload.is_empty() {
                self.payload.reserve(RESERVE.min(size as usize));
            }
            bytes = take(&mut self.payload, size as usize, bytes);
            if self.payload.len() < size as usize {
                return Ok(());
            }
            let (kind, flags) = (self.header[8], self.header[9]);
            out.push(Message { lane, stream, kind, flags, payload: std::mem::take(&mut self.payload) });
            self.header.clear();
        }
    }
}

/// Fills `buffer` up to `size` and returns the rest.
fn take<'a>(buffer: &mut Vec<u8>, size: usize, bytes: &'a [u8]) -> &'a [u8] {
    let (now, later) = bytes.split_at(size.saturating_sub(buffer.len()).min(bytes.len()));
    buffer.extend_from_slice(now);
    later
}

/// The two numbers that a complete header begins with.
fn numbers(header: &[u8], size: usize) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    if header.len() < size { None } else { Some((number(0)?, number(4)?)) }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
