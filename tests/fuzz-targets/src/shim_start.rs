//! What a shim's `start` prints: where the shim listens.

use cricket_shim::{Bootstrap, MAX_ANSWER};

/// What is read is a place that can be connected to, and the same again when it was written down.
pub fn run(data: &[u8]) {
    let Ok(shim) = Bootstrap::parse(data) else { return };
    assert!(data.len() <= MAX_ANSWER && [2, 3].contains(&shim.version), "{shim:?}");
    let path = shim.address.path().to_str().expect("text");
    assert!(path.starts_with('/') && path.len() <= 107 && !path.contains(char::is_control), "{path:?}");
    assert_eq!(Bootstrap::parse(shim.to_json().as_bytes()).expect("what was written"), shim);
}
