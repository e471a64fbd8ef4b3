//! Compressed header blocks of a SPDY client, and what a forwarding makes of them.

use cricket_streaming::fuzzing::header_blocks;

/// Inflating is bounded, whatever the blocks say.
pub fn run(data: &[u8]) {
    header_blocks(data);
}
