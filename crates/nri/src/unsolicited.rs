//! Updates and evictions: those that plugins ask for by themselves, and those that come with their answers.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::mpsc;

use crate::api::{ContainerEviction, ContainerUpdate, UpdateContainersRequest, UpdateContainersResponse};
use crate::error::Status;
use crate::plugin::invalid;
use crate::runtime::Runtime;

/// Answers that may wait until they are carried out.
const QUEUE: usize = 256;

/// Carries out what a plugin asks for, and answers which updates failed.
pub(crate) async fn update(payload: Vec<u8>, runtime: &dyn Runtime) -> Result<Vec<u8>, Status> {
    let request = UpdateContainersRequest::decode(payload.as_slice()).map_err(|e| invalid(&e))?;
    let failed = carry_out(runtime, request.update, request.evict).await;
    Ok(UpdateContainersResponse { failed }.encode_to_vec())
}

/// Evictions first: they make room for what the updates claim.
async fn carry_out(
    runtime: &dyn Runtime,
    updates: Vec<ContainerUpdate>,
    evictions: Vec<ContainerEviction>,
) -> Vec<ContainerUpdate> {
    for eviction in evictions {
        let (id, reason) = (eviction.container_id.clone(), eviction.reason.clone());
        tracing::info!(container = id, reason, "container evicted by an NRI plugin");
        if let Err(error) = runtime.evict(eviction).await {
            tracing::warn!(container = id, error, "eviction failed");
        }
    }
    let mut failed = Vec::new();
    for update in updates {
        if let Err(error) = runtime.update(update.clone()).await {
            tracing::warn!(container = update.container_id, error, "update of an NRI plugin failed");
            if !update.ignore_failure {
                failed.push(update);
            }
        }
    }
    failed
}

/// What comes with answers is carried out in its order by a task of its own: the pod that asked the plugins may be the
/// one that has to be changed.
#[derive(Debug, Clone)]
pub(crate) struct Queue(mpsc::Sender<(Vec<ContainerUpdate>, Vec<ContainerEviction>)>);

impl Queue {
    /// Starts the task; it ends with the last clone of this.
    pub(crate) fn start(runtime: Arc<dyn Runtime>) -> Self {
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some((updates, evictions)) = receiver.recv().await {
                carry_out(runtime.as_ref(), updates, evictions).await;
            }
        });
        Self(sender)
    }

    /// Adds one answer's.
    pub(crate) fn add(&self, updates: Vec<ContainerUpdate>, evictions: Vec<ContainerEviction>) {
        if (!updates.is_empty() || !evictions.is_empty()) && self.0.try_send((updates, evictions)).is_err() {
            tracing::error!("updates of NRI plugins lost: {QUEUE} answers wait to be carried out");
        }
    }
}
