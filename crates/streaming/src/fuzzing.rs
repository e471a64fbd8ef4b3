//! Entries for fuzzers: each takes what a client can send and returns, whatever that is.

use bytes::{Bytes, BytesMut};

use crate::backend::TerminalSize;
use crate::forward::Request;
use crate::remote::ResizeParser;
use crate::spdy::{Decoder, Event, Inflater};
use crate::websocket::{Channels, Forwarding, read};

/// Frames of a SPDY connection that come in pieces of this size: the bytes of data with the stream of each run, and
/// whether the connection was in order.
pub fn spdy_frames(data: &[u8], piece: usize) -> (Vec<(u32, Vec<u8>)>, bool) {
    let (mut decoder, mut buffer) = (Decoder::new(), BytesMut::new());
    let mut runs: Vec<(u32, Vec<u8>)> = Vec::new();
    for piece in data.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(Event::Data { stream, bytes, .. })) => match runs.last_mut() {
                    Some((last, run)) if *last == stream => run.extend_from_slice(&bytes),
                    _ => runs.push((stream, bytes.to_vec())),
                },
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return (runs, false),
            }
        }
    }
    (runs, true)
}

/// Compressed header blocks of one connection, each behind its length in two bytes, and what a forwarding makes of them.
pub fn header_blocks(mut data: &[u8]) {
    let mut inflater = Inflater::new();
    let mut stream = 1;
    while let Some((length, rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (block, rest) = rest.split_at(length);
        let Ok(headers) = inflater.headers(block) else { return };
        let _ = Request::read(&headers, stream);
        stream += 2;
        data = rest;
    }
}

/// Messages of a WebSocket, each behind its length in one byte; the first line is the subprotocol.
pub fn websocket_messages(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (name, mut rest) = data.split_at(end);
    let Ok(name) = std::str::from_utf8(name) else { return };
    let _ = Forwarding::parse(name);
    let Some(channels) = Channels::parse(name) else { return };
    rest = rest.get(1..).unwrap_or_default();
    while let Some((length, more)) = rest.split_first() {
        let (message, more) = more.split_at(usize::from(*length).min(more.len()));
        let _ = read(channels, &Bytes::copy_from_slice(message));
        rest = more;
    }
}

/// Bytes of a resize channel that come in pieces of this size: the last size, if all of them are understood.
pub fn resizes(data: &[u8], piece: usize) -> Option<TerminalSize> {
    let mut parser = ResizeParser::default();
    let mut last = None;
    for piece in data.chunks(piece.max(1)) {
        last = parser.last(piece).ok()?.or(last);
    }
    last
}
