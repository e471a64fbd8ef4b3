//! A node of one's own with a real kubelet: registry, network, runtime and
//! kubelet, for static pods. [`cluster`] makes it a node of a cluster.
//!
//! ```text
//! test ──manifest file──▶ kubelet ──CRI──▶ cricket ──▶ pod
//!   ◀──────/pods (read-only port), its log (events), files that the pod writes
//! ```
//!
//! Invariants, besides those of the test kit:
//! - every kubelet has an address, directories, a control group root and a
//!   node name that no other has, and its own view of the two directories whose
//!   paths kubelets cannot be told ([`Kubelet`]), so that any number run at once;
//! - a kubelet dies with the process that started it, before its runtime does.

#![forbid(unsafe_code)]

pub mod cluster;
mod config;
mod events;
pub mod handlers;
mod kubelet;
mod node;
mod status;

pub use config::KubeletOptions;
pub use events::Event;
pub use kubelet::Kubelet;
pub use node::{IMAGE, Node, Options, peer};
pub use status::{Container, Exit, Pod};
