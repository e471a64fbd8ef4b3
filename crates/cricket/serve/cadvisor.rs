//! The socket for the kubelet's cAdvisor, which looks for containerd.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cricket_pod::Pods;
use cricket_server::Cadvisor;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::socket;

/// Requests at once on one connection: cAdvisor looks at one control group after the other.
const STREAMS: u32 = 64;

/// The socket while it is served.
pub(super) struct Serving {
    path: PathBuf,
    /// Device and inode: the path may be containerd's by the end.
    identity: Option<(u64, u64)>,
    server: JoinHandle<()>,
}

/// Serves there, where nobody else does. That it cannot be had costs metrics their labels, so it is an error in the log
/// and nothing else.
pub(super) fn serve(path: &Path, pods: Pods) -> Option<Serving> {
    let made = path.parent().map(|dir| fs::DirBuilder::new().recursive(true).mode(0o711).create(dir));
    if let Some(Err(e)) = made {
        tracing::error!(path = %path.display(), error = %e, "cAdvisor is not answered: no directory for its socket");
        return None;
    }
    let listener = match socket::listen(path, 0o660) {
        Ok(listener) => listener,
        Err(e) => {
            tracing::error!(error = %e, "cAdvisor is not answered: metrics of a kubelet have no containers' labels");
            return None;
        }
    };
    let service = Cadvisor::new(pods, env!("CARGO_PKG_VERSION").to_owned());
    let server = tokio::spawn(async move {
        let server = Server::builder().max_concurrent_streams(STREAMS);
        if let Err(e) = server.serve_with_incoming(service, UnixListenerStream::new(listener)).await {
            tracing::error!(error = %e, "cAdvisor is not answered any more");
        }
    });
    tracing::info!(address = %path.display(), "cAdvisor is answered");
    Some(Serving { path: path.to_owned(), identity: identity(path), server })
}

impl Serving {
    /// Ends it, and removes its socket unless the path is another process's by now.
    pub(super) fn end(self) {
        self.server.abort();
        if self.identity.is_some() && identity(&self.path) == self.identity {
            socket::remove(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
