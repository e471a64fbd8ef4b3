//! Joins a running container and executes a command in it.

fn main() {}
