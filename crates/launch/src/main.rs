//! Makes a container from an OCI bundle with libcontainer.

fn main() {}
