//! Names of images.

use cricket_image::reference::Reference;

/// A name that is read is inside the grammar's bounds and survives being written, in full and in short.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(name) = Reference::parse(text) else { return };
    assert_eq!(Reference::parse(&name.canonical()).as_ref(), Ok(&name), "canonical");
    assert_eq!(Reference::parse(&name.familiar()).as_ref(), Ok(&name), "familiar");
    assert!(name.tag().is_some() != name.digest().is_some(), "one of tag and digest");
    assert!(name.repository().len() <= 255 && name.tag().is_none_or(|t| !t.is_empty() && t.len() <= 128));
    assert!(!name.registry().is_empty() && !name.registry().contains('/'), "a registry is a file name");
    assert!(name.repository().split('/').all(|c| !matches!(c, "" | "." | "..")), "safe in a URL's path");
    if let Some(digest) = name.digest() {
        assert_eq!(name.with_digest(digest.clone()), name);
    }
}
