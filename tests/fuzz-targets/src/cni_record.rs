//! Records of attachments: what a crash or a disk may have done to them.

use cricket_cni::fuzzing::record;

use crate::input;

/// What is read is what would be written.
pub fn run(data: &[u8]) {
    let Ok(read) = record(data) else { return };
    let text = serde_json::to_vec(&read).expect("JSON");
    assert_eq!(record(&text).map(input::settled), Ok(input::settled(read)));
}
