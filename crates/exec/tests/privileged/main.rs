//! The helper against container-like processes, as root. Wants busybox-static and util-linux.

mod commands;
mod confinement;
mod pod_init;
mod support;
