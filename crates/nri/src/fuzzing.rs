//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use crate::frame::{Demux, Malformed};

/// Stream and payload of each message.
pub type Messages = Vec<(u32, Vec<u8>)>;

/// The messages in what a plugin sends, read in pieces of this many bytes, and what ended the reading.
pub fn messages(bytes: &[u8], piece: usize) -> (Messages, Option<String>) {
    let (mut demux, mut out) = (Demux::default(), Vec::new());
    let end = bytes.chunks(piece.max(1)).try_for_each(|piece| demux.feed(piece, &mut out));
    let messages = out.into_iter().map(|message| (message.stream, message.payload)).collect();
    (messages, end.err().map(|e: Malformed| e.to_string()))
}
