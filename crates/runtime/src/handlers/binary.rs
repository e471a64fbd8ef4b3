//! What handlers that run a program of the node have in common: where the program is, and whose pod a bundle is of.

use std::path::{Path, PathBuf};

use cricket_wire::launch_config::SYSTEM_PATH;

use super::{SANDBOX_BUNDLE, Unavailable};

/// The program, if it is there; a name without a slash is looked up in the usual system directories.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|path| path.is_file()),
        false => SYSTEM_PATH.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file()),
    }
}

/// Why a handler cannot be used whose program is not there.
pub(super) fn missing(handler: &str, name: &str) -> Unavailable {
    let reason = match name.contains('/') {
        true => format!("{name} is not there"),
        false => format!("{name} is in none of {}", SYSTEM_PATH.join(", ")),
    };
    Unavailable { handler: handler.to_owned(), reason }
}

/// The folder of the pod that a bundle is of: bundles are `sandbox` and `c/ID` in it.
pub(super) fn pod_of(bundle: &Path) -> Option<&Path> {
    bundle.ancestors().nth(if bundle.ends_with(SANDBOX_BUNDLE) { 1 } else { 2 })
}
