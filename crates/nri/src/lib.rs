//! The runtime side of the Node Resource Interface (NRI), version [`NRI_VERSION`] of its protocol.
//!
//! ```text
//! plugin ⇄ unix socket ⇄ frame (two connections over one) ⇄ ttrpc ⇄ Connection ⇄ Plugin ─┐
//! plugin ⇄ …                                                                             ├─ Plugins ⇄ pod driver
//! plugin ⇄ …                                                                             ─┘    │
//!                                    merge (owners, conflicts) ─▶ validate ─▶ apply to the OCI specification
//! ```
//!
//! Invariants: plugins are asked one request at a time, in the order of their indices; every call has a deadline; what a
//! plugin sends is bounded before it is kept; a pod or container of which plugins were told is either in the snapshot
//! that a later plugin is synchronised with, or comes to it as an event. Merging and applying are pure.
//!
//! The behaviour is that of the Go package `github.com/containerd/nri/pkg/adaptation`, with which the tests compare
//! it; [`merge`](crate::merge) says where it is not.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on panics"))]

mod apply;
mod config;
mod connection;
mod describe;
mod error;
mod frame;
mod launch;
mod listen;
pub mod merge;
#[cfg(test)]
mod peer;
mod plugin;
mod plugins;
mod runtime;
mod ttrpc;
mod unsolicited;
mod validate;
mod yaml;

#[doc(hidden)]
pub mod fuzzing;

/// The protocol's messages, generated from `proto/nri/nri.proto`; field comments are there.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod api {
    include!(concat!(env!("OUT_DIR"), "/nri.pkg.api.v1alpha1.rs"));
}

pub use apply::{Facts, Injector, apply};
pub use config::{Config, Validator};
pub use describe::{container, cri_resources, resources};
pub use error::{Error, Result};
pub use plugins::Plugins;
pub use runtime::{Future, Runtime, Snapshot};

/// The version of the NRI module that this follows, as plugins are told.
pub const NRI_VERSION: &str = "v0.12.5";
