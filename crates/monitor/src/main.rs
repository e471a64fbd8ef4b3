//! Owns the stdio, logs and exit codes of one pod's containers.

fn main() {}
