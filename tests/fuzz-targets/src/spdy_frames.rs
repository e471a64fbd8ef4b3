//! Frames of a SPDY client.

use cricket_streaming::fuzzing::spdy_frames;

/// However they are cut, the same data comes out, and no more than went in.
pub fn run(data: &[u8]) {
    let Some((piece, frames)) = data.split_first() else { return };
    let whole = spdy_frames(frames, frames.len());
    assert!(whole.0.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= frames.len());
    assert_eq!(spdy_frames(frames, usize::from(*piece)), whole);
}
