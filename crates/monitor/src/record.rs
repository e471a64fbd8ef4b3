//! The exit record: what is left of a container when its monitor is gone as well.

use std::io::{self, Write};
use std::path::Path;

use cricket_wire::ExitFacts;
use rustix::fs::{CWD, Mode, OFlags};

/// Writes the record beside its place and moves it there: it is whole or it is not there. Not synced; records live in
/// the state directory, which does not outlive the boot.
pub(crate) fn write(path: &Path, facts: &ExitFacts) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, &name, flags, Mode::from_raw_mode(0o600))?;
    let mut file = std::fs::File::from(file);
    let written = file.write_all(text(facts).as_bytes()).and_then(|()| std::fs::rename(&name, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&name);
    }
    written
}

/// JSON: numbers and truth values only, so nothing needs quoting.
fn text(facts: &ExitFacts) -> String {
    format!(
        "{{\"exit_code\":{},\"signal\":{},\"oom_killed\":{},\"created_at\":{},\"finished_at\":{},\"bytes_lost\":{},\"unknown\":{}}}\n",
        facts.exit_code,
        facts.signal,
        facts.oom_killed,
        facts.created_at,
        facts.finished_at,
        facts.bytes_lost,
        facts.unknown
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("exit");
        for exit_code in [1, 2] {
            write(&path, &ExitFacts { exit_code, ..ExitFacts::default() }).expect("write");
        }
        let names: Vec<_> = std::fs::read_dir(dir.path()).expect("list").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["exit"]);
        assert!(std::fs::read_to_string(&path).expect("read").starts_with("{\"exit_code\":2,"));
        assert!(write(&dir.path().join("absent/exit"), &ExitFacts::default()).is_err());
    }
}
