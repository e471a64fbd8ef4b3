//! Updates and evictions: those that plugins ask for by themselves, and those that come with their answers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message as _;
use tokio::sync::mpsc;

use crate::api::{ContainerEviction, ContainerUpdate, UpdateContainersRequest, UpdateContainersResponse};
use crate::error::Status;
use crate::merge::overlay;
use crate::plugin::invalid;
use crate::runtime::Runtime;

/// Containers that something may wait for: beyond so many, only those that exist.
const CONTAINERS: usize = 4096;
/// Bytes of a container's ID; those of this runtime have 64.
const MAX_ID: usize = 256;
/// Bytes of an update that waits.
const MAX_UPDATE: usize = 64 << 10;
/// Characters of an eviction's reason that are kept.
const MAX_REASON: usize = 1024;

/// Carries out what a plugin asks for, and answers which updates failed. Evictions first: they make room for what the
/// updates claim.
pub(crate) async fn update(payload: Vec<u8>, runtime: &dyn Runtime) -> Result<Vec<u8>, Status> {
    let request = UpdateContainersRequest::decode(payload.as_slice()).map_err(|e| invalid(&e))?;
    for eviction in request.evict {
        carry_out(runtime, Work::Evict(eviction)).await;
    }
    let mut failed = Vec::new();
    for update in request.update {
        failed.extend(carry_out(runtime, Work::Update(update)).await);
    }
    Ok(UpdateContainersResponse { failed }.encode_to_vec())
}

/// Something to be done to a container.
#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "none is kept: it is made to be carried out")]
enum Work {
    Evict(ContainerEviction),
    Update(ContainerUpdate),
}

/// Answers an update whose failure matters.
async fn carry_out(runtime: &dyn Runtime, work: Work) -> Option<ContainerUpdate> {
    match work {
        Work::Evict(eviction) => {
            let (id, reason) = (eviction.container_id.clone(), eviction.reason.clone());
            tracing::info!(container = id, reason, "container evicted by an NRI plugin");
            if let Err(error) = runtime.evict(eviction).await {
                tracing::warn!(container = id, error, "eviction failed");
            }
            None
        }
        Work::Update(update) => {
            let error = runtime.update(update.clone()).await.err()?;
            tracing::warn!(container = update.container_id, error, "update of an NRI plugin failed");
            (!update.ignore_failure).then_some(update)
        }
    }
}

/// What comes with answers is carried out by a task of its own: the pod that asked the plugins may be the one that has
/// to be changed. So the plugins' requests cannot wait for it either; instead each container has one place for an
/// eviction and one for an update, to which later ones are added.
#[derive(Clone)]
pub(crate) struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    runtime: Arc<dyn Runtime>,
    wake: mpsc::Sender<()>,
}

impl Queue {
    /// Starts the task; it ends with the last clone of this.
    pub(crate) fn start(runtime: Arc<dyn Runtime>) -> Self {
        let (wake, mut woken) = mpsc::channel(1);
        let queue = Self { waiting: Arc::default(), runtime, wake };
        let (waiting, runtime) = (queue.waiting.clone(), queue.runtime.clone());
        tokio::spawn(async move {
            while woken.recv().await.is_some() {
                while let Some(work) = next(&waiting) {
                    carry_out(runtime.as_ref(), work).await;
                }
            }
        });
        queue
    }

    /// Adds one answer's.
    pub(crate) fn add(&self, updates: Vec<ContainerUpdate>, evictions: Vec<ContainerEviction>) {
        if updates.is_empty() && evictions.is_empty() {
            return;
        }
        let many = {
            let mut waiting = lock(&self.waiting);
            evictions.into_iter().for_each(|eviction| waiting.evict(eviction));
            updates.into_iter().for_each(|update| waiting.update(update));
            waiting.containers() > CONTAINERS
        };
        if many {
            tracing::error!("NRI plugins ask for too much: only containers that exist are changed");
            let exist: HashSet<_> = self.runtime.snapshot().containers.into_iter().map(|c| c.id).collect();
            lock(&self.waiting).retain(&exist);
        }
        let _awake_already = self.wake.try_send(());
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn next(waiting: &Mutex<Waiting>) -> Option<Work> {
    lock(waiting).next()
}

/// What waits, evictions before updates, each in the order in which their containers were first named.
#[derive(Default)]
struct Waiting {
    evictions: Places<ContainerEviction>,
    updates: Places<ContainerUpdate>,
}

/// One place for each container.
struct Places<T> {
    order: VecDeque<String>,
    of: HashMap<String, T>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), of: HashMap::new() }
    }
}

impl<T> Places<T> {
    fn add(&mut self, id: &str, new: T) {
        self.order.push_back(id.to_owned());
        self.of.insert(id.to_owned(), new);
    }

    fn next(&mut self) -> Option<T> {
        self.order.pop_front().and_then(|id| self.of.remove(&id))
    }

    fn retain(&mut self, exist: &HashSet<String>) {
        self.order.retain(|id| exist.contains(id));
        self.of.retain(|id, _| exist.contains(id));
    }
}

impl Waiting {
    fn evict(&mut self, mut eviction: ContainerEviction) {
        let id = eviction.container_id.clone();
        if id.len() > MAX_ID || self.evictions.of.contains_key(&id) {
            // No container, or on its way out.
            return;
        }
        eviction.reason = eviction.reason.chars().take(MAX_REASON).collect();
        self.evictions.add(&id, eviction);
    }

    fn update(&mut self, update: ContainerUpdate) {
        let (id, size) = (update.container_id.clone(), update.encoded_len());
        let too_large = |size| tracing::error!(bytes = size, "update of an NRI plugin is too large, and left out");
        if id.len() > MAX_ID || size > MAX_UPDATE {
            return too_large(size);
        }
        let Some(older) = self.updates.of.get_mut(&id) else { return self.updates.add(&id, update) };
        let mut merged = older.clone();
        overlay(&mut merged, update);
        match merged.encoded_len() {
            size if size > MAX_UPDATE => too_large(size),
            _ => *older = merged,
        }
    }

    fn containers(&self) -> usize {
        self.evictions.of.len().max(self.updates.of.len())
    }

    fn retain(&mut self, exist: &HashSet<String>) {
        self.evictions.retain(exist);
        self.updates.retain(exist);
    }

    fn next(&mut self) -> Option<Work> {
        let eviction = self.evictions.next().map(Work::Evict);
        eviction.or_else(|| self.updates.next().map(Work::Update))
    }
}

#[cfg(test)]
#[path = "unsolicited_tests.rs"]
mod tests;
