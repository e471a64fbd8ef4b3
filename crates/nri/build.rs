//! Generates the messages of `proto/nri` in pure Rust. The services are called by name: see `src/ttrpc.rs`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/nri");
    let file = proto.join("nri.proto");
    println!("cargo::rerun-if-changed={}", file.display());
    let descriptors = protox::compile([&file], [&proto])?;
    // Sorted maps: what plugins are sent and what is compared does not depend on a hash.
    prost_build::Config::new().btree_map(["."]).compile_fds(descriptors)?;
    Ok(())
}
