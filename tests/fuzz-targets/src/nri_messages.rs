//! Bytes of an NRI plugin.

use cricket_nri::fuzzing::messages;

/// However they are cut, the same messages come out, and no more than went in.
pub fn run(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = messages(bytes, bytes.len());
    assert!(whole.0.iter().map(|(_, payload)| payload.len()).sum::<usize>() <= bytes.len());
    assert_eq!(messages(bytes, usize::from(*piece)), whole);
}
