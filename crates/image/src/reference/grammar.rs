//! The rules for each part of a reference (distribution-spec, "Pulling manifests": name and tag; the host's rule is
//! that of the Docker implementations).

/// Longest text that is looked at: a host, 255 bytes of repository, a tag and a digest.
pub(super) const MAX_TEXT: usize = 1024;
/// Longest repository, in bytes.
const MAX_REPOSITORY: usize = 255;
/// Longest host, in bytes (RFC 1035, 2.3.4), port included.
const MAX_REGISTRY: usize = 255 + 6;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;

/// `host[:port]`: a host name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn check_registry(registry: &str) -> Result<(), String> {
    if registry.len() > MAX_REGISTRY {
        return Err(format!("its registry is longer than {MAX_REGISTRY} bytes"));
    }
    let wrong = || format!("{registry:?} is not a registry's host");
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            (None, port)
        }
        None => {
            let at = registry.find(':').unwrap_or(registry.len());
            (Some(&registry[..at]), &registry[at..])
        }
    };
    if let Some(host) = host
        && !host.split('.').all(is_label)
    {
        return Err(wrong());
    }
    if port.is_empty() {
        return Ok(());
    }
    let digits = port.strip_prefix(':').filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|p| p.parse::<u16>().ok()) {
        Some(1..) => Ok(()),
        _ => Err(format!("{registry:?} has no valid port")),
    }
}

/// One label of a host name; capitals are let through as every implementation does.
fn is_label(label: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !label.is_empty() && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
}

/// Path components of lower-case letters and digits, joined inside by `.`, `_`, `__` or any number of `-`.
/// `written` is what the user wrote, `full` what it stands for.
pub(super) fn check_repository(written: &str, full: &str) -> Result<(), String> {
    if full.len() > MAX_REPOSITORY {
        return Err(format!("its repository is longer than {MAX_REPOSITORY} bytes"));
    }
    if written.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("the repository {written:?} must be in lower case"));
    }
    if written.split('/').all(is_component) {
        return Ok(());
    }
    Err(format!("{written:?} is not a repository: want words of a-z and 0-9 joined by single . _ - and /"))
}

fn is_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    let joint = |joint: &[u8]| matches!(joint, [] | b"." | b"_" | b"__") || joint.iter().all(|&b| b == b'-');
    bytes.split(|&b| alnum(b)).all(joint)
}

/// A letter, digit or underscore, then up to 127 of those, dots and dashes.
pub(super) fn check_tag(tag: &str) -> Result<(), String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if good { Ok(()) } else { Err(format!("{tag:?} is not a tag: want up to {MAX_TAG} letters, digits, _ . -")) }
}
