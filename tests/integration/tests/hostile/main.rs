//! What images, registries, requests and containers may try against the host and the daemon. Which weakness of other
//! runtimes is tested where: `tests/integration/SECURITY-TESTS.md`.

mod checkpoints;
mod containers;
mod defaults;
mod directories;
mod forks;
mod forwarder;
mod images;
mod logs;
mod memory;
mod placement;
mod registries;
mod requests;
mod support;
