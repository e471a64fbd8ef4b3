//! The socket that plugins connect to.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use tokio::net::UnixListener;

use crate::error::{Error, Result};

/// Listens on `path`, in a folder that only root may enter when it is made here. Whoever may connect can change every
/// container, so only root may.
///
/// # Errors
/// When another runtime listens there: its plugins stay its own.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    let failed = |source| Error::Listen { path: path.to_owned(), source };
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(failed(io::Error::new(io::ErrorKind::AddrInUse, "another runtime listens there"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(_) => match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        },
    }
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nri/nri.sock");
        let first = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(listen(&path).unwrap_err().to_string().contains("another runtime"));
        drop(first);
        listen(&path).unwrap();
    }
}
