//! Launches real containers: wants root, a static busybox, and cgroups.

mod harness;
mod hostile;
mod latency;
mod oci;
mod runs;
mod sandbox;
