//! cricket: flags, configuration, wiring and operator commands.

fn main() {}
