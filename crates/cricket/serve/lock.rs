//! One daemon for a root and for a state directory: the lock file says whether one runs, and which.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A lock that is held until this is dropped, also by the death of the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Why a lock could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody has it.
    #[error("{}: held by another cricket{}; two daemons need different --root and --state", path.display(), pid(*by))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder, if it said so.
        by: Option<u32>,
    },
    /// The file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn pid(by: Option<u32>) -> String {
    by.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl Lock {
    /// Takes the lock, whose directory exists, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it.
    pub(crate) fn take(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = (&file).take(32).read_to_string(&mut text);
                let by: Option<u32> = text.trim().parse().ok();
                if by.is_none_or(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
                    return Err(LockError::Held { path: path.to_owned(), by });
                }
                // A daemon that was killed while it started a helper: the child has its files until it executes.
                flock(&file, FlockOperation::LockExclusive).map_err(|e| io(e.into()))?;
            }
            Err(e) => return Err(io(e.into())),
        }
        // For people only: the lock is what counts, so a full disk does not matter.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("lock");
        let first = Lock::take(&path).expect("free");
        let text = Lock::take(&path).expect_err("held").to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(first);
        Lock::take(&path).expect("free again");
    }
}
