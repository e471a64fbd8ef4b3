//! Launches real containers: wants root, a static busybox, and cgroups.

mod harness;
mod hooks;
mod hostile;
mod latency;
mod mounts;
mod oci;
mod runs;
mod sandbox;
mod trace;
mod userns;
