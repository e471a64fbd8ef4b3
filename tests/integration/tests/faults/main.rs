//! Kills, restarts, reboots and retries.

mod both;
mod broken;
mod containers;
mod creates;
mod disks;
mod hung;
mod monitors;
mod poststop;
mod pulls;
mod reboot;
mod removals;
mod restart;
mod sandboxes;
mod shims;
mod soak;
mod stuck;
mod support;
mod unattended;
