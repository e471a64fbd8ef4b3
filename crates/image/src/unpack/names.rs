//! Names as archives write them, made clean.

use super::limits::Fault;
use super::manifest::unescape;

/// An archive's name as a clean relative path: no empty components and dots, and `..` is refused.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out: Vec<&[u8]> = Vec::new();
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(Fault::Bad(format!("{}: the name leads upwards", name.escape_ascii()))),
            c if c.contains(&0) => return Err(Fault::Bad(format!("{}: NUL in a name", name.escape_ascii()))),
            c if c.len() > 255 => return Err(Fault::bound("a name", "255 bytes")),
            c => out.push(c),
        }
    }
    let path = out.join(&b'/');
    if path.len() > 4095 { Err(Fault::bound("a path", "4095 bytes")) } else { Ok(path) }
}

pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    })
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// The bytes of a path that the manifest or the metadata escaped.
pub(crate) fn name_bytes(escaped: &str) -> Vec<u8> {
    unescape(escaped)
}
