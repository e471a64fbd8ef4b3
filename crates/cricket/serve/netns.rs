//! Notices when somebody removes a pod's network namespace: the pod is then no longer ready.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cricket_pod::Pods;
use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchMask};

/// Names that network namespaces of pods have.
const PREFIX: &str = "cni-";

/// Watches the directory, which is made if it is missing, for as long as the daemon runs. Without inotify a removed
/// namespace is noticed at the next start only.
pub(super) fn watch(dir: PathBuf, pods: Pods) {
    match open(&dir) {
        Ok(stream) => drop(tokio::spawn(follow(stream, dir, pods))),
        Err(e) => tracing::warn!(dir = %dir.display(), error = %e, "removed network namespaces go unnoticed"),
    }
}

fn open(dir: &Path) -> io::Result<EventStream<Vec<u8>>> {
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(dir)?;
    let inotify = Inotify::init()?;
    inotify.watches().add(dir, WatchMask::DELETE | WatchMask::MOVED_FROM | WatchMask::ONLYDIR)?;
    inotify.into_event_stream(vec![0; 4096])
}

async fn follow(mut stream: EventStream<Vec<u8>>, dir: PathBuf, pods: Pods) {
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) if event.mask.contains(EventMask::Q_OVERFLOW) => look(&pods).await,
            Ok(event) if event.mask.contains(EventMask::IGNORED) => break,
            Ok(event) => {
                if let Some(name) = event.name.filter(ours) {
                    pods.netns_gone(&name).await;
                }
            }
            Err(e) => {
                tracing::warn!(dir = %dir.display(), error = %e, "removed network namespaces go unnoticed");
                return;
            }
        }
    }
    // The directory itself went, and every namespace with it.
    look(&pods).await;
    tracing::warn!(dir = %dir.display(), "the directory of network namespaces was removed");
}

fn ours(name: &OsString) -> bool {
    name.to_str().is_some_and(|n| n.starts_with(PREFIX))
}

/// Events were lost: every pod's namespace is looked at.
async fn look(pods: &Pods) {
    for pod in pods.list() {
        let Some(path) = &pod.record.sandbox.netns else { continue };
        let Some(name) = path.file_name().filter(|_| !path.exists()) else { continue };
        pods.netns_gone(name).await;
    }
}
