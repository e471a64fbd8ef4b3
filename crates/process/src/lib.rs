//! Clone, namespaces, pidfds, capabilities, seccomp and the mount API: most of the unsafe code.

#![forbid(unsafe_code)]
