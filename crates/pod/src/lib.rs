//! The driver of each pod: state machine, intents, reconciler.
//!
//! ```text
//! server ──▶ Pods (registry, creates that join) ──▶ Driver (one task a pod) ──▶ monitor, cgroups, network, images
//!   ▲                                                   │
//!   └────────────── PodView, Event ◀── published ───────┘ records: journal (state) and store (root)
//! ```
//!
//! Invariants: one driver owns a pod; a record precedes its effect; readers never wait; an unfinished record is taken
//! to its end by [`Pods::restore`].

#![forbid(unsafe_code)]

pub mod apparmor;
mod bundle;
mod cdi;
mod cgroups;
mod driver;
mod error;
mod exec;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod info;
mod joins;
mod metrics;
mod netstat;
mod nri;
mod oneshot;
mod pipe;
mod pods;
mod reach;
mod record;
mod resources;
mod restore;
mod sandbox;
mod seccomp;
mod selinux;
mod shared;
mod stage;
mod stats;
mod stream;
mod sweep;
mod timeline;
mod view;

pub use cgroups::Cgroups;
pub use cricket_oci::Hugetlb;
pub use cricket_oci::selinux::MAX_CATEGORIES;
pub use error::{Chain, Error, Result};
pub use exec::ExecOutput;
pub use host::Host;
pub use metrics::metric_descriptors;
pub use nri::Nri;
pub use pods::{Pods, Told};
pub use record::{
    ContainerRecord, ContainerState, Exited, ImageFacts, MountedRef, PodRecord, PodResources, Running, SandboxRecord,
    SandboxState, Stored,
};
pub use selinux::{OpenError as SelinuxError, Selinux};
pub use shared::{Event, EventKind, PodsConfig, Shared, now};
pub use stage::WaitedFor;
pub use stats::Readers;
pub use stream::{AttachSession, Attachment, Closed, ExecProcess, ExecSession, Exit, Input, Output, Stdio, Terminal};
pub use timeline::{Step, Timeline};
pub use view::{Live, PodView, id_matches};

/// PID of a pod's monitor.
pub fn monitor_pid(monitor: &cricket_runtime::monitor::MonitorClient) -> u32 {
    monitor.pid()
}
