//! All plugins: requests go to each in turn, one request at a time.
//!
//! The list's lock is held while plugins are asked, and while a new one is synchronised: what a plugin misses while it
//! is not on the list is in what it is synchronised with. Whoever is being made and not yet in the runtime's snapshot is
//! remembered here for that.

mod requests;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Semaphore;

use crate::api::{self, Container, PodSandbox};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::launch::{self, Found};
use crate::listen::listen;
use crate::plugin::{Known, Plugin, Terms};
use crate::runtime::{Runtime, Snapshot};
use crate::unsolicited::Queue;

/// Plugins that may have connected and be there at the same time, beside those of the directory.
const CONNECTIONS: usize = 64;

type List = Vec<Arc<Plugin>>;

/// The plugins of this runtime. Nothing is asked before [`Plugins::start`], nor when the configuration disables them.
pub struct Plugins {
    config: Config,
    terms: Terms,
    list: tokio::sync::Mutex<List>,
    memory: Mutex<Memory>,
    started: OnceLock<(Arc<dyn Runtime>, Queue)>,
}

#[derive(Default)]
struct Memory {
    /// Plugins know of them, the snapshot may not have them yet.
    pods: BTreeMap<String, PodSandbox>,
    containers: BTreeMap<String, Container>,
    /// Containers of whose end plugins were told: once.
    stopped: HashSet<String>,
}

impl Plugins {
    /// None yet. The name and version of the runtime are for the plugins.
    pub fn new(config: Config, runtime_name: &str, runtime_version: &str) -> Arc<Self> {
        let terms = Terms {
            runtime_name: runtime_name.to_owned(),
            runtime_version: runtime_version.to_owned(),
            registration: config.plugin_registration_timeout,
            request: config.plugin_request_timeout,
        };
        let (list, memory, started) = (tokio::sync::Mutex::default(), Mutex::default(), OnceLock::new());
        Arc::new(Self { config, terms, list, memory, started })
    }

    /// Whether there may be plugins: where not, nothing need be described to them.
    pub fn enabled(&self) -> bool {
        !self.config.disable
    }

    /// Starts the directory's plugins, waits until they are synchronised, and listens for others. A plugin that does not
    /// start is left out.
    ///
    /// # Errors
    /// When the directory cannot be read or the socket not listened on; plugins that were started stay.
    pub async fn start(self: &Arc<Self>, runtime: Arc<dyn Runtime>) -> Result<()> {
        let queue = Queue::start(runtime.clone());
        if !self.enabled() || self.started.set((runtime.clone(), queue)).is_err() {
            return Ok(());
        }
        let found = launch::discover(&self.config);
        let starts = found.iter().flatten().map(|plugin| async {
            match self.launch(plugin, runtime.clone()).await {
                Ok(plugin) => Some(plugin),
                Err(error) => {
                    tracing::error!(path = %plugin.path.display(), %error, "NRI plugin not started");
                    None
                }
            }
        });
        for plugin in futures_util::future::join_all(starts).await.into_iter().flatten() {
            self.join_or_say(plugin).await;
        }
        found?;
        if !self.config.disable_connections {
            let listener = listen(&self.config.socket_path)?;
            tokio::spawn(accept(Arc::downgrade(self), listener, runtime));
        }
        Ok(())
    }

    async fn launch(&self, found: &Found, runtime: Arc<dyn Runtime>) -> Result<Plugin> {
        let name = format!("{}-{}", found.index, found.base);
        let program = found.clone();
        let started = tokio::task::spawn_blocking(move || launch::start(&program)).await;
        let started = started.map_err(std::io::Error::other).and_then(|started| started);
        let (process, socket) = started.map_err(|e| Error::start(name.clone(), e))?;
        let socket = tokio::net::UnixStream::from_std(socket).map_err(|e| Error::start(name, e))?;
        let (index, base, config) = (found.index.clone(), found.base.clone(), found.config.clone());
        Plugin::start(socket, Some(Known { index, base, config, process }), &self.terms, runtime).await
    }

    async fn join_or_say(&self, plugin: Plugin) {
        let name = plugin.name();
        match self.join(plugin).await {
            Ok(()) => tracing::info!(plugin = name, "NRI plugin connected"),
            Err(error) => tracing::error!(plugin = name, %error, "NRI plugin disconnected"),
        }
    }

    /// Synchronises a plugin and puts it on the list.
    async fn join(&self, plugin: Plugin) -> Result<()> {
        let mut list = self.list.lock().await;
        let updates = plugin.synchronize(self.snapshot(), self.terms.request).await?;
        list.retain(|other| other.is_open());
        list.push(Arc::new(plugin));
        list.sort_by(|a, b| a.index.cmp(&b.index));
        drop(list);
        self.carry_out(updates, Vec::new());
        Ok(())
    }

    /// What is being made first: it is forgotten only after the runtime shows it.
    fn snapshot(&self) -> Snapshot {
        let (pods, containers) = {
            let memory = self.memory();
            (memory.pods.clone(), memory.containers.clone())
        };
        let mut snapshot = self.started.get().map(|(runtime, _)| runtime.snapshot()).unwrap_or_default();
        let shown: HashSet<_> = snapshot.pods.iter().map(|pod| pod.id.clone()).collect();
        snapshot.pods.extend(pods.into_iter().filter(|(id, _)| !shown.contains(id)).map(|(_, pod)| pod));
        let shown: HashSet<_> = snapshot.containers.iter().map(|container| container.id.clone()).collect();
        let made = containers.into_iter().filter(|(id, _)| !shown.contains(id)).map(|(_, container)| container);
        snapshot.containers.extend(made);
        snapshot
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, updates: Vec<api::ContainerUpdate>, evictions: Vec<api::ContainerEviction>) {
        if let Some((_, queue)) = self.started.get() {
            queue.add(updates, evictions);
        }
    }

    /// Locks the list, without those that are gone.
    async fn list(&self) -> tokio::sync::MutexGuard<'_, List> {
        let mut list = self.list.lock().await;
        list.retain(|plugin| plugin.is_open());
        list
    }
}

/// Takes plugins that connect, until the daemon ends.
async fn accept(plugins: std::sync::Weak<Plugins>, listener: tokio::net::UnixListener, runtime: Arc<dyn Runtime>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of descriptors, say: not for ever.
                tracing::warn!(%error, "NRI connection not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(plugins) = plugins.upgrade() else { return };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::error!("NRI connection refused: {CONNECTIONS} plugins are connected");
            continue;
        };
        let runtime = runtime.clone();
        tokio::spawn(async move {
            match Plugin::start(socket, None, &plugins.terms, runtime).await {
                Ok(plugin) => {
                    let end = plugin.end();
                    plugins.join_or_say(plugin).await;
                    drop(plugins);
                    end.cancelled().await;
                }
                Err(error) => tracing::error!(%error, "NRI plugin not accepted"),
            }
            // It is taken for the whole life of the connection, on the list or not yet.
            drop(slot);
        });
    }
}

#[cfg(test)]
#[path = "../plugins_tests.rs"]
mod tests;
