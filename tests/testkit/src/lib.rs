//! What the privileged tests and the scripts in `hack/` stand on: images made
//! from this machine's own files, registries on loopback that serve them (or
//! misbehave on request), a CNI network of one's own, a cricket daemon that is
//! cleaned up after, and a thin CRI client.
//!
//! Invariants:
//! - nothing has a fixed port, name or directory, so that any number of tests
//!   run at once;
//! - whatever is started or made here is stopped or removed on drop, also when
//!   the test panics; a helper process dies with the process that started it;
//! - [`leaks`] attributes what is left to one daemon by names that only this
//!   daemon was given, never by what else the machine runs.

#![forbid(unsafe_code)]

pub mod cni;
pub mod conformance;
pub mod cri;
pub mod critest;
pub mod daemon;
pub mod fake;
pub mod host;
pub mod image;
pub mod leaks;
pub mod logs;
pub mod mirrors;
pub mod reap;
pub mod registry;
