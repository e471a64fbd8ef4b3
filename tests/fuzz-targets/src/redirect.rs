//! What else a registry's headers say: where a redirect leads, and which part of a blob an answer is.

use cricket_image::fuzzing::{range_matches, redirect};

/// A redirect leads to http or https, never from TLS to plain text, and without credentials; a range is the one asked
/// for.
pub fn run(data: &[u8]) {
    for from in ["https://registry.example/v2/a/blobs/b", "http://127.0.0.1:5000/v2/"] {
        let Some(to) = redirect(&from.parse().expect("an address"), data) else { continue };
        assert!(to.scheme() == "https" || to.scheme() == "http" && from.starts_with("http:"), "{from} to {to}");
        assert!(to.username().is_empty() && to.password().is_none() && to.fragment().is_none(), "{to}");
        assert!(to.host_str().is_some_and(|h| !h.is_empty()), "{to}");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    for (offset, size) in [(0, 1), (5, 10), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        if range_matches(text, offset, size) {
            let numbers = [offset.to_string(), (size - 1).to_string()];
            assert!(numbers.iter().all(|n| text.contains(n.as_str())), "{text}");
        }
    }
}
