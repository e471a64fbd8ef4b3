//! The CRI services: one file per RPC.
//!
//! ```text
//! tonic ─▶ runtime/RPC.rs, image/RPC.rs ─▶ cricket_pod::Pods, cricket_image::ImageStore
//!                    │
//!                    ├─ pieces.rs: lists as streams
//!                    ├─ cadvisor/: the few calls of containerd's API that kubelets' metrics need
//!                    ├─ streaming.rs: streaming clients' sessions over the same pods
//!                    └─ convert/: records → CRI messages · code.rs: errors → gRPC codes
//! ```
//!
//! Invariants: no state of its own; List and Status read published pictures and wait for nobody; an ID is marked as
//! told in the very line that hands it over.

#![forbid(unsafe_code)]

mod cadvisor;
mod code;
mod convert;
mod image;
mod instrument;
mod pieces;
mod runtime;
mod streaming;

use std::sync::Arc;

use cricket_cri_api::v1::image_service_server::ImageServiceServer;
use cricket_cri_api::v1::runtime_service_server::RuntimeServiceServer;
use cricket_image::ImageStore;
use cricket_pod::{Error, Pods};
use cricket_streaming::Server;

pub use cadvisor::Cadvisor;
pub use streaming::Sessions;

/// Runs what blocks off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(read).await.map_err(|error| Error::internal(what, &error))
}

/// Largest request, in bytes: kubelets allow 16 MiB in both directions.
pub const MAX_MESSAGE: usize = 16 << 20;

/// What the services answer from.
#[derive(Clone)]
pub struct Service(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) pods: Pods,
    pub(crate) images: ImageStore,
    pub(crate) streaming: Server,
    pub(crate) config: ServiceConfig,
}

/// What the services need of the configuration.
#[derive(Debug, Clone, Default)]
pub struct ServiceConfig {
    /// Printed by Version.
    pub version: String,
    /// The effective configuration for verbose Status, as JSON.
    pub config: serde_json::Value,
    /// `conf_template` of the CNI configuration and where it is rendered to, when configured.
    pub cni_template: Option<CniTemplate>,
}

/// containerd's `conf_template`: a CNI configuration rendered when the kubelet tells the node's pod CIDR.
#[derive(Debug, Clone)]
pub struct CniTemplate {
    /// The template file.
    pub template: std::path::PathBuf,
    /// The file it is rendered to.
    pub target: std::path::PathBuf,
}

impl Service {
    /// The services over these pods and images; `streaming` serves [`Sessions`] of the same pods.
    pub fn new(pods: Pods, images: ImageStore, streaming: Server, config: ServiceConfig) -> Self {
        Self(Arc::new(Inner { pods, images, streaming, config }))
    }

    /// The gRPC service of the runtime.
    pub fn runtime(&self) -> RuntimeServiceServer<Self> {
        RuntimeServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// The gRPC service of the images.
    pub fn image(&self) -> ImageServiceServer<Self> {
        ImageServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}
