//! Whether pods can be attached: a network is configured, its programs are there, and they say they are ready.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::conf::Loaded;
use crate::runner::Runner;
use crate::{CniConfig, Verb};

/// Why pods cannot be attached now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotReady {
    /// What is missing, for the message of the condition `NetworkReady`.
    pub message: String,
}

/// The state of the networks.
pub type Readiness = std::result::Result<(), NotReady>;

impl NotReady {
    /// The reason of the CRI condition `NetworkReady`.
    pub const REASON: &'static str = "NetworkPluginNotReady";

    pub(crate) fn new(what: impl std::fmt::Display) -> Self {
        Self { message: format!("cni plugin not initialized: {what}") }
    }
}

/// What can be said without running anything.
pub(crate) fn installed(config: &CniConfig, loaded: &Loaded) -> Readiness {
    if loaded.networks.is_empty() {
        let mut message = format!("no network configuration in {}", config.conf_dir.display());
        if !loaded.skipped.is_empty() {
            message.push_str(&format!(" (skipped {})", crate::error::printable(&loaded.skipped.join(", "), 1024)));
        }
        return Err(NotReady::new(message));
    }
    for network in &loaded.networks {
        for plugin in &network.list.plugins {
            if find(&config.bin_dirs, &plugin.program).is_none() {
                let dirs = &config.bin_dirs;
                let name = &network.list.name;
                return Err(NotReady::new(format!("network {name:?}: no plugin {:?} in {dirs:?}", plugin.program)));
            }
        }
    }
    Ok(())
}

/// Whether the answer changes without any file changing.
pub(crate) fn asks_plugins(loaded: &Loaded) -> bool {
    loaded.networks.iter().any(|n| n.list.version.has_status())
}

/// The full answer: plugins of 1.1.0 are asked.
pub(crate) async fn evaluate(runner: &Runner, loaded: &Loaded) -> Readiness {
    installed(&runner.config, loaded)?;
    let no_args = Default::default();
    for network in loaded.networks.iter().filter(|n| n.list.version.has_status()) {
        for plugin in &network.list.plugins {
            let run = runner.run(&network.list, plugin, Verb::Status, None, &no_args, []);
            run.await.map_err(NotReady::new)?;
        }
    }
    Ok(())
}

/// What tells one installed program from another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Program {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// The programs of every network, `None` for those that are missing.
pub(crate) fn programs(config: &CniConfig, loaded: &Loaded) -> Vec<Option<Program>> {
    let describe = |path: PathBuf| {
        let meta = path.metadata().ok()?;
        let modified = (meta.mtime(), meta.mtime_nsec());
        Some(Program { path, device: meta.dev(), inode: meta.ino(), size: meta.size(), modified })
    };
    let plugins = loaded.networks.iter().flat_map(|n| &n.list.plugins);
    plugins.map(|p| find(&config.bin_dirs, &p.program).and_then(describe)).collect()
}

/// The first executable file of that name.
pub(crate) fn find(dirs: &[PathBuf], program: &str) -> Option<PathBuf> {
    dirs.iter()
        .map(|dir| dir.join(program))
        .find(|path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok())
}
