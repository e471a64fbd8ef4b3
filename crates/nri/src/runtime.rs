//! What plugins can see of the runtime and ask of it.

use std::pin::Pin;

use crate::api;

/// A boxed future.
pub type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// The pods and containers that exist.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every pod that is not being made or removed.
    pub pods: Vec<api::PodSandbox>,
    /// Their containers that are made and have not ended.
    pub containers: Vec<api::Container>,
}

/// The runtime, as plugins need it.
pub trait Runtime: Send + Sync + 'static {
    /// What exists now. Must not wait for anything.
    fn snapshot(&self) -> Snapshot;
    /// Changes a container's limits. An error is for the log and the plugin.
    fn update(&self, update: api::ContainerUpdate) -> Future<Result<(), String>>;
    /// Stops a container at once.
    fn evict(&self, eviction: api::ContainerEviction) -> Future<Result<(), String>>;
}
