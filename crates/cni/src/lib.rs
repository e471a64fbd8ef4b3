//! Runs CNI plugins: networks, result cache, teardown (CNI specification 0.3.0 to 1.1.0).
//!
//! ```text
//!   conf_dir ──watch──► list of networks ──► readiness (STATUS, binaries)      the node's, and one for each
//!                              │                                               handler with a directory of its own
//!   ADD: intent in cache ─► plugins in order, result of one is prevResult of the next ─► result in cache
//!   DEL: record in cache ─► every plugin of every network, backwards ─► record removed when all succeeded
//! ```
//!
//! Invariants: a record is written before the first plugin of an ADD runs (`cache` says what survives what); teardown
//! reads only that record, never the directory; whatever a plugin prints or how long it runs is bounded; operations on
//! one sandbox take turns, those on different sandboxes run side by side; GC runs alone, and only while nobody waits for it.

#![forbid(unsafe_code)]

mod add;
mod attachment;
mod bandwidth;
mod cache;
mod check;
mod cni;
mod collect;
mod conf;
mod config;
mod del;
mod env;
mod error;
mod gc;
mod info;
mod intent;
mod invoke;
mod list;
mod occupancy;
mod pod;
mod quantity;
mod readiness;
mod request;
mod result;
mod runner;
mod turns;
mod version;
mod watch;

#[doc(hidden)]
pub mod fuzzing;

pub use attachment::{Attachment, Interface, InterfaceAddress};
pub use bandwidth::Bandwidth;
pub use cni::Cni;
pub use config::{CniConfig, HandlerNetworks};
pub use error::{Error, PluginError, Verb};
pub use intent::Intent;
pub use pod::{Dns, PodNetwork, PortMapping, Protocol};
pub use readiness::{NotReady, Readiness};
pub use version::Version;

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
