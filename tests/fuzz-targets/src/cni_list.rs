//! Network configuration lists.

use cricket_cni::fuzzing::list;

use crate::input;

/// Programs are plain file names, so is the network's name, and what is recorded reads back to the same list.
pub fn run(data: &[u8]) {
    let Ok(read) = list(data) else { return };
    assert!(!read.programs.is_empty());
    for name in read.programs.iter().chain([&read.name]) {
        assert!(!name.is_empty() && name.len() <= 255 && name != "." && name != "..", "{name:?}");
        assert!(!name.contains(['/', '\0']), "{name:?}");
    }
    let text = serde_json::to_vec(&read.json).expect("JSON");
    let again = list(&text).expect("what is recorded");
    assert_eq!((&again.name, &again.programs), (&read.name, &read.programs));
    assert_eq!(input::settled(again.json), input::settled(read.json));
}
