//! Pods run by a real kubelet. With `CRICKET_TEST_PEER=1` the runtime is
//! containerd, which shows that what the tests ask for is what kubelets get.

#![forbid(unsafe_code)]

mod cadvisor;
mod failures;
mod node;
mod pulls;
mod restarts;
mod support;
mod timeline;
