//! A real monitor with the daemon's real client; the helper is `examples/helper.rs`, the containers are shells.
//! Needs root: the monitor serves the superuser only.

mod containers;
mod execs;
mod faults;
mod logs;
mod memory;
mod sessions;
mod starts;
mod stuck;
mod support;
mod versions;
