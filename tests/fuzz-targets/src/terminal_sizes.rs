//! The resize channel of a terminal.

use cricket_streaming::fuzzing::resizes;

/// Sizes that are understood whole are understood in pieces.
pub fn run(data: &[u8]) {
    let Some((piece, sizes)) = data.split_first() else { return };
    // What is no whole size yet is kept up to a bound, so long pieces may fail where short ones do.
    let whole = resizes(sizes, sizes.len());
    let cut = resizes(sizes, usize::from(*piece));
    if sizes.len() < 4096 {
        assert_eq!(cut, whole, "{:?}", String::from_utf8_lossy(sizes));
    }
}
