//! Docker's `config.json` and `.dockercfg`, and which of their entries are for an image.

use cricket_image::fuzzing::node_credentials;

use crate::input;

/// Bounded; an error repeats nothing; without patterns nothing is for a host that the file does not name.
pub fn run(data: &[u8]) {
    let [image, file] = input::parts(data);
    let image = String::from_utf8_lossy(image);
    for old in [false, true] {
        match node_credentials(file, old, &image) {
            Ok(found) => {
                assert!(found.len() <= 32);
                assert!(found.iter().all(|(header, _)| header.as_ref().is_none_or(|h| h.starts_with("Basic "))));
                let text = String::from_utf8_lossy(file);
                if !text.contains(['*', '[', '\\']) {
                    let other = node_credentials(file, old, "nowhere.invalid:1/x").expect("as before");
                    let named = text.contains("nowhere.invalid:1");
                    assert!(
                        named || other.iter().all(|(header, helper)| header.is_none() && *helper),
                        "sent elsewhere"
                    );
                }
                assert_eq!(node_credentials(file, old, &image), Ok(found), "nothing but the bytes decide");
            }
            Err(text) => assert!(text.starts_with("not a credentials file: line "), "{text}"),
        }
    }
}
