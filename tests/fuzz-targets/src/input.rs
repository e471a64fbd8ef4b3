//! How bytes become several arguments, and places to work in.

use std::path::Path;

use serde_json::Value;

/// Splits `data` at NUL bytes into `N` parts; those that are missing are empty, the last one has the rest.
pub(crate) fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |b| *b == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// A directory that is removed when dropped, in memory where there is such a place.
pub(crate) fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("cricket-fuzz-").tempdir_in(parent).expect("a directory")
}

/// The names in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory that can be read");
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Without numbers that are no integers: the JSON library reads those to the last digit but one only.
pub(crate) fn settled(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::Null,
        Value::Array(items) => items.into_iter().map(settled).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, settled(value))).collect(),
        other => other,
    }
}
