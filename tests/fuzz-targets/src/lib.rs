//! What is fuzzed: every parser of bytes that cricket did not write, each with what has to hold of its result.
//!
//! A target is a function of bytes that panics when something does not hold. `fuzz/` has a program for each, which
//! `hack/fuzz` runs; `tests/replay.rs` runs each over its kept inputs in `corpus/TARGET/`, with any compiler.
//! What a finding was about is the name of its input.
//!
//! Invariants: a target depends on its bytes alone, leaves nothing behind, and takes milliseconds.

#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "panicking is how a target reports")]

pub mod archive;
pub mod auth;
pub mod cdi_spec;
pub mod cgroup_path;
pub mod challenge;
pub mod cni_list;
pub mod cni_quantity;
pub mod cni_record;
pub mod cni_result;
pub mod config_toml;
pub mod docker_config;
pub mod exit_record;
pub mod hosts_toml;
pub mod journal;
pub mod kernel_files;
pub mod layer;
pub mod log_split;
pub mod manifest;
pub mod names;
pub mod nri_answers;
pub mod nri_messages;
pub mod redirect;
pub mod reference;
pub mod seccomp_profile;
pub mod shim_answers;
pub mod shim_start;
pub mod spdy_frames;
pub mod spdy_headers;
pub mod terminal_sizes;
pub mod user;
pub mod websocket_messages;
pub mod wire;

mod input;

/// A target: it panics when something does not hold.
pub type Run = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Run)] = &[
    ("archive", archive::run),
    ("auth", auth::run),
    ("cdi_spec", cdi_spec::run),
    ("cgroup_path", cgroup_path::run),
    ("challenge", challenge::run),
    ("cni_list", cni_list::run),
    ("cni_quantity", cni_quantity::run),
    ("cni_record", cni_record::run),
    ("cni_result", cni_result::run),
    ("config_toml", config_toml::run),
    ("docker_config", docker_config::run),
    ("exit_record", exit_record::run),
    ("hosts_toml", hosts_toml::run),
    ("journal", journal::run),
    ("kernel_files", kernel_files::run),
    ("layer", layer::run),
    ("log_split", log_split::run),
    ("manifest", manifest::run),
    ("names", names::run),
    ("nri_answers", nri_answers::run),
    ("nri_messages", nri_messages::run),
    ("redirect", redirect::run),
    ("reference", reference::run),
    ("seccomp_profile", seccomp_profile::run),
    ("shim_answers", shim_answers::run),
    ("shim_start", shim_start::run),
    ("spdy_frames", spdy_frames::run),
    ("spdy_headers", spdy_headers::run),
    ("terminal_sizes", terminal_sizes::run),
    ("user", user::run),
    ("websocket_messages", websocket_messages::run),
    ("wire", wire::run),
];
