//! The client that pods are attached with.

use std::fmt;
use std::sync::Arc;

use cricket_model::SandboxId;
use tokio::sync::{RwLock, watch};

use crate::attachment::Attachment;
use crate::cache::Cache;
use crate::runner::Runner;
use crate::turns::Turns;
use crate::watch::Directory;
use crate::{CniConfig, Readiness, Result, info};

/// Attaches sandboxes to the networks of one configuration directory. Clones are the same client.
#[derive(Clone)]
pub struct Cni(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) runner: Runner,
    pub(crate) cache: Cache,
    pub(crate) directory: Directory,
    pub(crate) turns: Turns,
    /// The specification wants GC alone: ADD and DEL share, GC excludes them.
    pub(crate) collecting: RwLock<()>,
}

impl fmt::Debug for Cni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cni").field(&self.0.runner.config).finish()
    }
}

impl Cni {
    /// Opens the records, reads the configuration directory (it may be missing) and follows its changes.
    ///
    /// # Errors
    /// The record directory cannot be made, or nothing can be watched.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(config: CniConfig) -> Result<Self> {
        let cache = Cache::open(&config.cache_dir)?;
        let runner = Runner { config: Arc::new(config) };
        let directory = Directory::follow(runner.clone())?;
        let (turns, collecting) = (Turns::default(), RwLock::new(()));
        Ok(Self(Arc::new(Inner { runner, cache, directory, turns, collecting })))
    }

    /// Whether pods can be attached, as last known. Plugins that have an opinion (STATUS) are asked again in the
    /// background when the answer has aged; [`Cni::subscribe`] tells when it changes.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready(&self) -> Readiness {
        self.0.directory.readiness()
    }

    /// Follows readiness.
    pub fn subscribe(&self) -> watch::Receiver<Readiness> {
        self.0.directory.subscribe()
    }

    /// The loaded configuration for the verbose Status (`cniconfig`), in the form that containerd's clients know.
    pub fn config_json(&self) -> serde_json::Value {
        info::describe(&self.0.runner.config, &self.0.directory.loaded().networks)
    }

    /// Every sandbox with a record: attached, half attached or half detached. An ADD that was dropped while its record
    /// was being written may appear a moment later. A directory that cannot be read is
    /// logged and lists nothing.
    pub fn cached(&self) -> Vec<SandboxId> {
        self.0.cache.list().unwrap_or_else(|e| {
            tracing::error!(directory = %self.0.runner.config.cache_dir.display(), error = %e, "cannot list network records");
            Vec::new()
        })
    }

    /// What a finished ADD gave to a sandbox; `None` when there was none.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn attachment(&self, sandbox: &SandboxId) -> Result<Option<Attachment>> {
        Ok(self.0.cache.read(sandbox).await?.and_then(|record| record.attachment))
    }
}
