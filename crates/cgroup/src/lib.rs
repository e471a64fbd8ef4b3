//! Control groups v1 and v2: make, join, limit, kill, measure, remove.
//!
//! A [`Cgroup`] is one path in every hierarchy of the host: on v1 and hybrid hosts each controller's mount,
//! `name=systemd` and the unified one; on v2 the only one. [`Hierarchies`] says which there are; it is found once.
//!
//! Invariants:
//! - What somebody else made is never limited and never removed. Ancestors that [`Cgroup::create`] makes carry
//!   the extended attribute `trusted.cricket.made`, which dies with them, so no record of them has to be kept.
//! - [`Cgroup::apply`] writes only what is set, and all of it or nothing.
//! - Every loop is bounded. Everything here blocks: call it off the async threads.

#![forbid(unsafe_code)]

mod apply;
mod details;
mod error;
mod files;
mod freeze;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod hierarchy;
mod kill;
mod leaf;
mod make;
mod oom;
mod path;
mod psi;
mod remove;
mod resources;
mod stats;
#[cfg(feature = "systemd")]
pub mod systemd;

pub use details::{CpuDetails, Details, DeviceIo, MemoryDetails, Throttling};
pub use error::Error;
pub use group::{Cgroup, JoinFds};
pub use hierarchy::{Hierarchies, Hierarchy, Kind, Version};
pub use leaf::{ExecFiles, ExecLeaf};
pub use path::CgroupPath;
pub use psi::{PsiData, PsiStats};
pub use resources::Resources;
pub use stats::{CpuStats, MemoryStats, Stats, StatsReader, SwapStats};

/// What everything here returns.
pub type Result<T> = std::result::Result<T, Error>;
