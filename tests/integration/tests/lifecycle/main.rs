//! What kubelets, crictl and their users rely on, seen through the CRI socket.

mod cdi;
mod config;
mod environment;
mod events;
mod exec;
mod handlers;
mod image_volumes;
mod images;
mod limits;
mod logs;
mod metrics;
mod mounts;
mod namespaces;
mod network;
mod nri;
mod plugins;
mod resources;
mod security;
mod selinux;
mod stats;
mod status;
mod stop;
mod support;
mod systemd;
mod userns;
mod whole_pod;
