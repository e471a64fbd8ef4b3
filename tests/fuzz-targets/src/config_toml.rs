//! `config.toml`: containerd's layouts, with cricket's own table.

use cricket::fuzzing::config;

/// What is printed is TOML, and says the same when it is read.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let printed = match config(text) {
        Ok(printed) => printed,
        Err(error) => return assert!(!error.is_empty()),
    };
    let table: toml::Table = printed.parse().unwrap_or_else(|e| panic!("what is printed is no TOML: {e}\n{printed}"));
    // Secrets are not printed, so what needs them cannot be read again.
    if printed.contains("(hidden)") {
        return;
    }
    let again = config(&printed).unwrap_or_else(|e| panic!("what is printed is refused: {e}\n{printed}"));
    assert_eq!(again.parse::<toml::Table>().ok(), Some(table), "\n{printed}\n{again}");
}
