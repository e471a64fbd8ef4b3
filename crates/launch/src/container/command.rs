//! Finding the command in the container, with the words and statuses that users of runc know.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};

use crate::error::Error;

/// A shell's status for a command that is not there.
pub(super) const NOT_FOUND: i32 = 127;
/// A shell's status for one that cannot be executed.
pub(super) const NOT_EXECUTABLE: i32 = 126;

/// The file to execute: `name` itself when it has a slash, else the first executable of that name in `path`. Run as the
/// container's user, in its working directory.
pub(super) fn find(name: &str, path: Option<&str>) -> Result<PathBuf, Error> {
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(e) => Err(refused(name, &e)),
        };
    }
    let mut denied = None;
    for dir in path.unwrap_or_default().split(':').filter(|_| !name.is_empty()) {
        // An empty entry is the working directory (environ(7)).
        let file = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => denied = Some(e),
            Err(_) => {}
        }
    }
    match denied {
        Some(e) => Err(refused(name, &e)),
        None => Err(Error::command(format!("exec: {name:?}: executable file not found in $PATH"), NOT_FOUND)),
    }
}

/// Why execve(2) refused the file that was found.
pub(super) fn not_executed(path: &Path, error: &io::Error) -> Error {
    let status = if error.raw_os_error() == Some(libc::ENOENT) { NOT_FOUND } else { NOT_EXECUTABLE };
    Error::command(format!("exec {}: {}", path.display(), words(error)), status)
}

fn refused(name: &str, error: &io::Error) -> Error {
    if error.raw_os_error() == Some(libc::ENOENT) {
        return Error::command(format!("exec: {name:?}: stat {name}: no such file or directory"), NOT_FOUND);
    }
    Error::command(format!("exec: {name:?}: {}", words(error)), NOT_EXECUTABLE)
}

fn check(file: &Path) -> io::Result<()> {
    let found = stat(file)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        FileType::RegularFile => Ok(accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS)?),
        _ => Err(io::Error::from_raw_os_error(libc::EACCES)),
    }
}

/// The kernel's words, lowercase, without the number that Rust adds.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn finds_like_a_shell() {
        let dir = tempfile::tempdir().expect("directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("tool"), "#!/bin/sh\n").expect("write");
        fs::set_permissions(at("tool"), fs::Permissions::from_mode(0o711)).expect("chmod");
        fs::write(at("plain"), "").expect("write");
        fs::create_dir(at("sub")).expect("mkdir");
        let path = format!("/nowhere:{}", dir.path().display());
        assert_eq!(find("tool", Some(&path)).expect("found"), dir.path().join("tool"));
        assert_eq!(find(&at("tool"), None).expect("found"), dir.path().join("tool"));
        let message = |name: &str, path| find(name, path).expect_err(name).to_string();
        assert_eq!(message("foo", Some(path.as_str())), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(message("sub", Some(path.as_str())), "exec: \"sub\": executable file not found in $PATH");
        assert_eq!(message("", Some(path.as_str())), "exec: \"\": executable file not found in $PATH");
        assert_eq!(message("/no/pe", None), "exec: \"/no/pe\": stat /no/pe: no such file or directory");
        assert_eq!(message("plain", Some(path.as_str())), "exec: \"plain\": permission denied");
        let sub = at("sub");
        assert_eq!(message(&sub, None), format!("exec: {sub:?}: is a directory"));
    }

    #[test]
    fn statuses_are_a_shells() {
        let status = |e: Error| e.into_failure().shell_status;
        assert_eq!(status(find("foo", Some("/nowhere")).expect_err("missing")), 127);
        assert_eq!(status(find("/etc", None).expect_err("directory")), 126);
        let format = io::Error::from_raw_os_error(libc::ENOEXEC);
        assert_eq!(not_executed(Path::new("/x"), &format).to_string(), "exec /x: exec format error");
        assert_eq!(status(not_executed(Path::new("/x"), &io::Error::from_raw_os_error(libc::ENOENT))), 127);
    }
}
