//! What the daemon asks for itself: directories, limits, the service manager's attention.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

use crate::config::Own;

/// The daemon is the last to be killed when memory is short; where that is not permitted, the service manager or the
/// host decides.
const OOM_SCORE_ADJ: i32 = -999;

/// Makes root (for root alone) and state (containers' processes pass through it), and their parents.
///
/// # Errors
/// Names the directory.
pub(crate) fn directories(own: &Own) -> Result<(), String> {
    umask(Mode::from_raw_mode(0o022));
    for (dir, mode) in [(&own.root, 0o700), (&own.state, 0o711)] {
        make(dir, mode).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    for socket in [&own.address, &own.admin_address] {
        let Some(dir) = socket.parent() else { continue };
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    Ok(())
}

fn make(dir: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => fs::set_permissions(dir, fs::Permissions::from_mode(mode)),
    }
}

/// Keeps the heap small, raises the limit of open files and lowers the OOM score; the last two need not work.
pub(super) fn prepare() {
    cricket_process::memory::give_back();
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(e) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(error = %e, "the limit of open files stays as it is");
    }
    let path = "/proc/self/oom_score_adj";
    let current = fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<i32>().ok()).unwrap_or(0);
    if current > OOM_SCORE_ADJ
        && let Err(e) = fs::write(path, OOM_SCORE_ADJ.to_string())
    {
        tracing::info!(current, error = %e, "the OOM score of the daemon stays as it is");
    }
}

/// Tells the service manager, if there is one.
pub(super) fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::warn!(error = %e, "the service manager was not told");
    }
}
