//! The client that pods are attached with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cricket_model::SandboxId;
use cricket_store::Store;
use tokio::sync::{Notify, watch};

use crate::attachment::Attachment;
use crate::cache::Cache;
use crate::conf::Network;
use crate::occupancy::Occupancy;
use crate::runner::Runner;
use crate::turns::Turns;
use crate::watch::Directory;
use crate::{CniConfig, HandlerNetworks, Readiness, Result, info};

/// Attaches sandboxes to the networks of the configuration directories. Clones are the same client.
#[derive(Clone)]
pub struct Cni(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) runner: Runner,
    pub(crate) cache: Cache,
    /// The node's.
    pub(crate) directory: Directory,
    /// Those of handlers, by name; handlers with the same directory share it.
    pub(crate) handlers: BTreeMap<String, Arc<Directory>>,
    pub(crate) turns: Turns,
    pub(crate) occupancy: Occupancy,
    /// Told when a directory's networks have changed, and at the end.
    pub(crate) changed: Arc<Notify>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

impl fmt::Debug for Cni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cni").field(&self.0.runner.config).finish()
    }
}

impl Cni {
    /// Opens the records, reads the configuration directories (they may be missing) and follows their changes.
    ///
    /// # Errors
    /// The record directory cannot be made, or nothing can be watched.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(config: CniConfig) -> Result<Self> {
        let cache = Cache::open(&config.cache_dir, None)?;
        Self::start(config, cache)
    }

    /// The same, with records that survive a power cut: those that the store has and the directory lost are restored.
    ///
    /// # Errors
    /// As [`Cni::open`], and when the store cannot be read.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open_with(config: CniConfig, store: Store) -> Result<Self> {
        let cache = Cache::open(&config.cache_dir, Some(store))?;
        Self::start(config, cache)
    }

    fn start(config: CniConfig, cache: Cache) -> Result<Self> {
        let changed = Arc::new(Notify::new());
        let runner = Runner { config: Arc::new(config) };
        let directory = Directory::follow(runner.clone(), &changed)?;
        let handlers = follow_handlers(&runner, &changed)?;
        let (turns, occupancy) = (Turns::default(), Occupancy::default());
        Ok(Self(Arc::new(Inner { runner, cache, directory, handlers, turns, occupancy, changed })))
    }

    /// Whether pods can be attached, as last known. Plugins that have an opinion (STATUS) are asked again in the
    /// background when the answer has aged; [`Cni::subscribe`] tells when it changes.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready(&self) -> Readiness {
        self.0.directory.readiness()
    }

    /// As [`Cni::ready`], for the networks that pods of this handler are attached to.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready_for(&self, handler: &str) -> Readiness {
        self.0.directory(handler).readiness()
    }

    /// Handlers with networks of their own, sorted, each with what [`Cni::config_json`] and [`Cni::ready`] say of
    /// them.
    pub fn handlers(&self) -> Vec<(&str, serde_json::Value, Readiness)> {
        let describe = |directory: &Directory| info::describe(directory.config(), &directory.loaded().networks);
        self.0.handlers.iter().map(|(name, d)| (name.as_str(), describe(d), d.readiness())).collect()
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

impl Inner {
    /// Where the networks of a handler's pods are configured.
    pub(crate) fn directory(&self, handler: &str) -> &Directory {
        self.handlers.get(handler).map_or(&self.directory, |own| own)
    }

    /// Every configured network: the node's first, then those of handlers that are not among them.
    pub(crate) fn networks(&self) -> Vec<Network> {
        let mut all = self.directory.loaded().networks.clone();
        for directory in self.handlers.values() {
            let own = directory.loaded();
            let new: Vec<_> = own.networks.iter().filter(|n| !all.iter().any(|a| a.list == n.list)).cloned().collect();
            all.extend(new);
        }
        all
    }
}

fn follow_handlers(runner: &Runner, changed: &Arc<Notify>) -> Result<BTreeMap<String, Arc<Directory>>> {
    let mut followed: BTreeMap<&HandlerNetworks, Arc<Directory>> = BTreeMap::new();
    let mut handlers = BTreeMap::new();
    for (name, networks) in &runner.config.handlers {
        let directory = match followed.get(networks) {
            Some(shared) => Arc::clone(shared),
            None => {
                let HandlerNetworks { conf_dir, max_conf_num } = networks.clone();
                let config = CniConfig { conf_dir, max_conf_num, ..CniConfig::clone(&runner.config) };
                Arc::new(Directory::follow(Runner { config: Arc::new(config) }, changed)?)
            }
        };
        followed.insert(networks, Arc::clone(&directory));
        handlers.insert(name.clone(), directory);
    }
    Ok(handlers)
}
