//! What kubelets, crictl and their users rely on, seen through the CRI socket.

mod exec;
mod logs;
mod network;
mod stop;
mod support;
mod whole_pod;
