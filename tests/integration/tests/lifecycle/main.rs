//! What kubelets, crictl and their users rely on, seen through the CRI socket.

mod environment;
mod exec;
mod logs;
mod mounts;
mod namespaces;
mod network;
mod security;
mod stop;
mod support;
mod whole_pod;
