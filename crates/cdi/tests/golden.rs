//! Directories of specifications and the OCI specifications that come of them, against files in `tests/golden`.
//! `UPDATE_GOLDEN=1 cargo test -p cricket-cdi` rewrites them; read the difference before committing it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io;
use std::path::Path;

use cricket_cdi::{Able, Host, HostNode, NodeKind, Nodes, Registry};
use cricket_oci::oci_spec::runtime::Spec;
use cricket_oci::{HostDevice, MountFacts, PathKind, Propagation};
use serde_json::{Value, json};

/// A host with the devices that the specifications are about.
struct Machine;

impl Nodes for Machine {
    fn node(&self, path: &Path) -> io::Result<Option<HostNode>> {
        let minor = match path.to_str().unwrap() {
            "/dev/gpu0" => 0,
            "/dev/gpu1" => 1,
            "/dev/gpu-control" => 255,
            "/dev/dri/card0" => return Ok(Some(HostNode { kind: NodeKind::Char, major: 226, minor: 0, mode: 0o640 })),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Some(HostNode { kind: NodeKind::Char, major: 195, minor, mode: 0o666 }))
    }
}

impl MountFacts for Machine {
    fn kind(&self, _: &Path) -> PathKind {
        PathKind::File
    }

    fn propagation(&self, _: &Path) -> Propagation {
        Propagation::Shared
    }

    fn devices(&self, _: &Path) -> Vec<HostDevice> {
        Vec::new()
    }
}

fn container(user_namespace: bool) -> Spec {
    let mut spec = json!({
        "ociVersion": "1.1.0",
        "process": { "cwd": "/", "args": ["sh"], "env": ["PATH=/bin", "VISIBLE_DEVICES=none"],
                     "user": { "uid": 1000, "gid": 1000, "additionalGids": [1000] } },
        "root": { "path": "rootfs" },
        "mounts": [{ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }],
        "linux": { "resources": { "devices": [{ "allow": false, "access": "rwm" }] }, "devices": [],
                   "namespaces": [{ "type": "mount" }] },
    });
    if user_namespace {
        spec["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "user" }]);
        spec["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    }
    serde_json::from_value(spec).unwrap()
}

fn check(name: &str, mut spec: Spec, devices: &[&str]) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let names: Vec<String> = devices.iter().map(|device| (*device).to_owned()).collect();
    let able = Able { intel_rdt: true, net_devices: true, mapped_mounts: true };
    let host = Host { nodes: &Machine, mounts: &Machine, able };
    Registry::new(vec![golden.join("specs")]).read().inject(&mut spec, &names, &host).unwrap();
    let got = serde_json::to_value(&spec).unwrap();
    let path = golden.join(format!("{name}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&got).unwrap() + "\n").unwrap();
        return;
    }
    let want: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(want, got, "{name}: differs from {}", path.display());
}

#[test]
fn one_card() {
    check("one_card", container(false), &["example.com/gpu=0"]);
}

#[test]
fn two_kinds() {
    check("two_kinds", container(false), &["example.com/gpu=all", "example.com/nic=port1", "example.com/gpu=0"]);
}

#[test]
fn a_card_in_a_user_namespace() {
    check("user_namespace", container(true), &["example.com/gpu=0"]);
}
