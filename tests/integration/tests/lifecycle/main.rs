//! What kubelets, crictl and their users rely on, seen through the CRI socket.

mod whole_pod;
