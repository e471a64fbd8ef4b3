//! `WWW-Authenticate` headers.

use cricket_image::fuzzing::challenges;

/// The number is bounded, names are lower case, and what was read survives being written with quotes.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let found = challenges(text);
    assert!(found.len() <= 16);
    let size: usize = found.iter().flat_map(|(s, p)| p.iter().map(|(n, v)| n.len() + v.len()).chain([s.len()])).sum();
    assert!(size <= text.len(), "more than was there");
    let lower = |name: &str| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase());
    assert!(found.iter().all(|(scheme, params)| lower(scheme) && params.iter().all(|(name, _)| lower(name))));
    let quoted = |v: &str| format!("\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\""));
    let written = found.iter().map(|(scheme, params)| {
        let params: Vec<_> = params.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        format!("{scheme} {}", params.join(", "))
    });
    let written = written.collect::<Vec<_>>().join(", ");
    if written.len() <= 8 << 10 {
        assert_eq!(challenges(&written), found, "{written}");
    }
}
