//! Entries for fuzzers: each takes what a client can send and returns, whatever that is.

use bytes::{Bytes, BytesMut};

use crate::forward::Request;
use crate::remote::ResizeParser;
use crate::spdy::{Decoder, Inflater};
use crate::websocket::{Channels, Forwarding, read};

/// Frames of a SPDY connection; the first byte says in which pieces they come.
pub fn spdy_frames(data: &[u8]) {
    let Some((piece, rest)) = data.split_first() else { return };
    let (mut decoder, mut buffer) = (Decoder::new(), BytesMut::new());
    for piece in rest.chunks(usize::from(*piece).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
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

/// Bytes of a resize channel; the first byte says in which pieces they come.
pub fn resizes(data: &[u8]) {
    let Some((piece, rest)) = data.split_first() else { return };
    let mut parser = ResizeParser::default();
    for piece in rest.chunks(usize::from(*piece).max(1)) {
        if parser.last(piece).is_err() {
            return;
        }
    }
}
