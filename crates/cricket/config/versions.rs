//! The layouts of containerd's configuration: versions 2, 3 and 4 become one.
//!
//! Version 2 has one table for all of CRI, which version 3 divides into runtime, images and streaming; version 4 moved
//! the servers' addresses, of which cricket uses none. Tables' names tell the layouts apart, so a file without a
//! `version` is read as well.

use toml::Value;

use super::error::{ConfigError, Result};
use super::node::{Kind, Node, Table, get, put, take};

/// The newest version that is understood.
const NEWEST: i64 = 4;
/// Version 2's table for everything, version 3's for streaming.
pub(crate) const GRPC: &str = "io.containerd.grpc.v1.cri";
/// The runtime's table.
pub(crate) const RUNTIME: &str = "io.containerd.cri.v1.runtime";
/// The images' table.
pub(crate) const IMAGES: &str = "io.containerd.cri.v1.images";

/// What version 3 has in the images' table.
const OF_IMAGES: [&str; 6] = [
    "registry",
    "image_decryption",
    "max_concurrent_downloads",
    "image_pull_progress_timeout",
    "image_pull_with_sync_fs",
    "stats_collect_period",
];
/// What `containerd` has there besides.
const OF_IMAGES_CONTAINERD: [&str; 3] = ["snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers"];
/// What stays.
const OF_STREAMING: [&str; 6] = [
    "disable_tcp_service",
    "stream_server_address",
    "stream_server_port",
    "stream_idle_timeout",
    "enable_tls_streaming",
    "x509_key_pair_streaming",
];

/// Brings one file's content into the newest layout. What it says in both spellings is taken from the newer one.
pub(crate) fn normalise(table: &mut Table) -> Result<()> {
    if let Some(node) = table.remove("version") {
        check(&node)?;
    }
    let old = match get(table, &["plugins", GRPC]) {
        Some(Node { kind: Kind::Table(old), .. }) => old.keys().cloned().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    for key in old.iter().filter(|k| !OF_STREAMING.contains(&k.as_str())) {
        let Some(node) = take(table, &["plugins", GRPC, key]) else { continue };
        match key.as_str() {
            "sandbox_image" => put(table, &["plugins", IMAGES, "pinned_images", "sandbox"], node),
            key if OF_IMAGES.contains(&key) => put(table, &["plugins", IMAGES, key], node),
            key => put(table, &["plugins", RUNTIME, key], node),
        }
    }
    for key in OF_IMAGES_CONTAINERD {
        if let Some(node) = take(table, &["plugins", RUNTIME, "containerd", key]) {
            put(table, &["plugins", IMAGES, key], node);
        }
    }
    if let Some(mut node) = take(table, &["plugins", RUNTIME, "cni", "bin_dir"]) {
        if let Kind::Value(Value::String(dir)) = &node.kind {
            node.kind = Kind::Value(Value::Array(vec![Value::String(dir.clone())]));
        }
        put(table, &["plugins", RUNTIME, "cni", "bin_dirs"], node);
    }
    Ok(())
}

fn check(node: &Node) -> Result<()> {
    let wrong = |reason: String| Err(ConfigError::Value { place: node.place.clone(), reason });
    match &node.kind {
        Kind::Value(Value::Integer(2..=NEWEST)) => Ok(()),
        Kind::Value(Value::Integer(1)) => {
            wrong("version 1 is not read any more; `containerd config migrate` prints it as a newer one".into())
        }
        other => {
            let Kind::Value(value) = other else { return wrong("want a number".into()) };
            wrong(format!("{value} is not a version that cricket knows: 2 to {NEWEST}"))
        }
    }
}
