//! Follows the configuration directory and the plugin directories with inotify(7).
//!
//! A directory that is missing is awaited through its parents: every existing directory on the way down to it is
//! watched, from the root, and each event on that way sets all watches anew. A watch is set before what it watches is
//! read, so nothing is missed in between.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::OptionFuture;
use futures_util::{FutureExt, StreamExt};
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::conf::{self, Loaded};
use crate::readiness::{Program, asks_plugins, evaluate, installed, programs};
use crate::runner::Runner;
use crate::{CniConfig, Error, NotReady, Readiness, Result};

/// Age at which the plugins' own opinion is asked for again.
const STATUS_AGE: Duration = Duration::from_secs(5);

/// The directory's content and what follows from it.
pub(crate) struct Directory {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    runner: Runner,
    loaded: Mutex<Arc<Loaded>>,
    programs: Mutex<Vec<Option<Program>>>,
    readiness: watch::Sender<Readiness>,
    asked: Mutex<Instant>,
    ask: Notify,
    /// Told when the networks have changed.
    changed: Arc<Notify>,
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Directory {
    /// Loads once, then on every change until dropped.
    pub(crate) fn follow(runner: Runner, changed: &Arc<Notify>) -> Result<Self> {
        let config = Arc::clone(&runner.config);
        let failed = |source| Error::Watch { path: config.conf_dir.clone(), source };
        let stream = Inotify::init().and_then(|i| i.into_event_stream(vec![0; 16 << 10])).map_err(failed)?;
        let mut way = Way::default();
        way.set(&mut stream.watches(), &config).map_err(failed)?;
        let loaded = Arc::new(conf::load(&config.conf_dir, config.max_conf_num));
        let readiness = match installed(&config, &loaded) {
            Ok(()) if asks_plugins(&loaded) => Err(NotReady::new("the plugins have not answered yet")),
            other => other,
        };
        let shared = Arc::new(Shared {
            runner,
            loaded: Mutex::default(),
            programs: Mutex::new(programs(&config, &loaded)),
            readiness: watch::Sender::new(readiness),
            asked: Mutex::new(Instant::now()),
            ask: Notify::new(),
            changed: Arc::clone(changed),
        });
        shared.store(loaded);
        let task = tokio::spawn(run(Arc::clone(&shared), stream, way)).abort_handle();
        Ok(Self { shared, task })
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.shared.loaded()
    }

    /// What it was opened with.
    pub(crate) fn config(&self) -> &CniConfig {
        &self.shared.runner.config
    }

    /// As last known; has the plugins asked again when that is long ago.
    pub(crate) fn readiness(&self) -> Readiness {
        if asks_plugins(&self.loaded()) {
            let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.elapsed() >= STATUS_AGE {
                *asked = Instant::now();
                self.shared.ask.notify_one();
            }
        }
        self.shared.readiness.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Readiness> {
        self.shared.readiness.subscribe()
    }
}

impl Shared {
    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn store(&self, loaded: Arc<Loaded>) {
        for file in &loaded.skipped {
            tracing::warn!(file, "network configuration skipped");
        }
        let names: Vec<_> = loaded.networks.iter().map(|n| n.list.name.as_str()).collect();
        tracing::info!(directory = %self.runner.config.conf_dir.display(), networks = ?names, "network configuration loaded");
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
    }

    /// Whether anything has changed that readiness depends on.
    async fn reload(&self) -> bool {
        let config = Arc::clone(&self.runner.config);
        let load = move || {
            let loaded = Arc::new(conf::load(&config.conf_dir, config.max_conf_num));
            let programs = programs(&config, &loaded);
            (loaded, programs)
        };
        let (loaded, programs) = match tokio::task::spawn_blocking(load).await {
            Ok(content) => content,
            Err(e) => {
                tracing::error!(error = %e, "cannot load the network configuration");
                return false;
            }
        };
        let old =
            std::mem::replace(&mut *self.programs.lock().unwrap_or_else(PoisonError::into_inner), programs.clone());
        let changed = *loaded != *self.loaded();
        if changed {
            self.store(loaded);
            self.changed.notify_one();
        }
        changed || old != programs
    }

    fn publish(&self, readiness: Readiness) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.readiness.send_if_modified(|old| {
            let changed = *old != readiness;
            *old = readiness;
            changed
        });
    }
}

async fn run(shared: Arc<Shared>, mut stream: EventStream<Vec<u8>>, mut way: Way) {
    let evaluation = || {
        let shared = Arc::clone(&shared);
        async move { evaluate(&shared.runner, &shared.loaded()).await }.boxed()
    };
    let mut pending = Some(evaluation());
    loop {
        tokio::select! {
            readiness = OptionFuture::from(pending.as_mut()), if pending.is_some() => {
                pending = None;
                if let Some(readiness) = readiness {
                    shared.publish(readiness);
                }
            }
            () = shared.ask.notified(), if pending.is_none() => pending = Some(evaluation()),
            changed = next_change(&mut stream, &way) => {
                let followed = changed.and_then(|()| way.set(&mut stream.watches(), &shared.runner.config));
                if let Err(e) = followed {
                    tracing::error!(error = %e, "network configuration is no longer followed");
                    shared.publish(Err(NotReady::new(format!("cannot watch the configuration: {e}"))));
                    return;
                }
                // What a plugin writes while it is asked must not have it asked again.
                if shared.reload().await {
                    pending = Some(evaluation());
                }
            }
        }
    }
}

/// Returns at an event that matters, with those that came with it.
async fn next_change(stream: &mut EventStream<Vec<u8>>, way: &Way) -> io::Result<()> {
    loop {
        let event = stream.next().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
        if way.concerns(&event) {
            while let Some(Some(more)) = stream.next().now_or_never() {
                more?;
            }
            return Ok(());
        }
    }
}

/// The watched directories: those that matter whole, and those on the way to them with the names that matter.
#[derive(Default)]
struct Way {
    whole: HashSet<WatchDescriptor>,
    names: HashMap<WatchDescriptor, HashSet<OsString>>,
}

impl Way {
    fn set(&mut self, watches: &mut Watches, config: &CniConfig) -> io::Result<()> {
        let mut new = Self::default();
        for dir in [&config.conf_dir].into_iter().chain(&config.bin_dirs) {
            new.add(watches, &absolute(dir)?)?;
        }
        let old = std::mem::replace(self, new);
        for watch in old.whole.into_iter().chain(old.names.into_keys()) {
            if !self.whole.contains(&watch) && !self.names.contains_key(&watch) {
                // Fails for a directory that is gone: the kernel has removed that watch itself.
                let _ = watches.remove(watch);
            }
        }
        Ok(())
    }

    fn add(&mut self, watches: &mut Watches, dir: &Path) -> io::Result<()> {
        let entries = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
        let itself = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR | WatchMask::MASK_ADD;
        let contents = WatchMask::CLOSE_WRITE | WatchMask::ATTRIB;
        let mut at = PathBuf::from("/");
        let mut rest = dir.components().skip(1);
        loop {
            let next = rest.next();
            let mask = if next.is_some() { entries | itself } else { entries | itself | contents };
            let watch = match watches.add(&at, mask) {
                Ok(watch) => watch,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
                Err(e) => return Err(e),
            };
            let Some(next) = next else {
                self.whole.insert(watch);
                return Ok(());
            };
            self.names.entry(watch).or_default().insert(next.as_os_str().to_owned());
            at.push(next);
        }
    }

    fn concerns(&self, event: &Event<OsString>) -> bool {
        let own = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::Q_OVERFLOW | EventMask::IGNORED;
        let known = self.whole.contains(&event.wd) || self.names.contains_key(&event.wd);
        if event.mask.intersects(own) {
            return known || event.mask.contains(EventMask::Q_OVERFLOW);
        }
        let named = |names: &HashSet<OsString>| event.name.as_ref().is_some_and(|n| names.contains(n));
        self.whole.contains(&event.wd) || self.names.get(&event.wd).is_some_and(named)
    }
}

fn absolute(dir: &Path) -> io::Result<PathBuf> {
    std::path::absolute(dir)
}
