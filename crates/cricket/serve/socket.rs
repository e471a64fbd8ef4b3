//! Unix sockets with the right modes, and none stolen from a living daemon.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why nobody can listen there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Another process does.
    #[error("{}: another process listens there", .0.display())]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{}: exists and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens at `path`. A socket that nobody listens at is replaced.
pub(super) fn listen(path: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) if listened(path) => return Err(SocketError::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(io)?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    // Bound under another name, so that nobody finds it with the wrong mode.
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let staged = PathBuf::from(staged);
    let _ = fs::remove_file(&staged);
    let listener = UnixListener::bind(&staged).map_err(io)?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(mode)).map_err(io)?;
    fs::rename(&staged, path).map_err(io)?;
    Ok(listener)
}

/// Whether a living process listens there. The child of a daemon that was killed may have its socket until it executes.
fn listened(path: &Path) -> bool {
    let Ok(stream) = UnixStream::connect(path) else { return false };
    let peer = rustix::net::sockopt::socket_peercred(&stream);
    peer.map_or(true, |peer| Path::new(&format!("/proc/{}", peer.pid.as_raw_nonzero())).exists())
}

/// Removes a socket at the end.
pub(super) fn remove(path: &Path) {
    if let Err(e) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), error = %e, "socket not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_ones_are_replaced_living_ones_are_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("s");
        let first = listen(&path, 0o660).expect("free");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o660);
        assert!(matches!(listen(&path, 0o660), Err(SocketError::InUse(_))));
        drop(first);
        drop(listen(&path, 0o600).expect("stale"));
        fs::remove_file(&path).expect("there");
        fs::write(&path, "x").expect("write");
        assert!(matches!(listen(&path, 0o600), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read(&path).expect("kept"), b"x");
    }
}
