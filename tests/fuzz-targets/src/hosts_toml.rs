//! `hosts.toml`: the endpoints that stand for a registry.

use std::path::Path;

use cricket_image::fuzzing::endpoints;

/// Addresses have scheme, host, port and path only; the registry itself is last; headers that would lie cannot be set.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let dir = Path::new("/etc/certs.d/registry");
    let (found, unknown) = match endpoints(text, dir) {
        Ok(found) => found,
        Err(error) => return assert!(!error.is_empty()),
    };
    assert!((1..=64).contains(&found.len()));
    assert!(unknown.len() <= text.len());
    let (last, others) = found.split_last().expect("the registry itself");
    assert!(others.iter().all(|e| e.base.is_some()));
    for url in others.iter().chain([last]).filter_map(|e| e.base.as_ref()) {
        assert!(matches!(url.scheme(), "http" | "https") && url.host_str().is_some(), "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
        assert_eq!(url.as_str().parse().as_ref(), Ok(url));
    }
    for endpoint in &found {
        assert!(!endpoint.headers.iter().any(|h| matches!(h.as_str(), "host" | "content-length" | "range")));
        assert!(endpoint.files.iter().all(|f| f.is_absolute()));
    }
    assert_eq!(endpoints(text, dir), Ok((found, unknown)), "nothing but the text decides");
}
