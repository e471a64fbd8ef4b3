//! Messages of a WebSocket client and the names of its protocols.

use cricket_streaming::fuzzing::websocket_messages;

/// Channels' messages are understood or refused.
pub fn run(data: &[u8]) {
    websocket_messages(data);
}
