use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use cricket_oci::oci_spec::runtime::Spec;
use cricket_oci::{HostDevice, MountFacts, PathKind, Propagation};
use serde_json::{Value, json};

use super::{Able, Host, HostNode, NodeKind, Nodes, apply};
use crate::error::Refusal;
use crate::model::Edits;

/// A host with a few nodes and directories.
struct Fake;

impl Nodes for Fake {
    fn node(&self, path: &Path) -> io::Result<Option<HostNode>> {
        let node = |kind, major, minor, mode| Ok(Some(HostNode { kind, major, minor, mode }));
        match path.components().collect::<std::path::PathBuf>().to_str().unwrap() {
            "/dev/card" => node(NodeKind::Char, 10, 20, 0o640),
            "/dev/disk" => node(NodeKind::Block, 8, 1, 0o660),
            "/run/pipe" => node(NodeKind::Fifo, 0, 0, 0o600),
            "/etc/hosts" => Ok(None),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl MountFacts for Fake {
    fn kind(&self, path: &Path) -> PathKind {
        if path.starts_with("/missing") { PathKind::Missing } else { PathKind::Directory }
    }

    fn propagation(&self, path: &Path) -> Propagation {
        match path.to_str().unwrap() {
            "/shared" => Propagation::Shared,
            "/slave" => Propagation::Slave,
            _ => Propagation::Private,
        }
    }

    fn devices(&self, _: &Path) -> Vec<HostDevice> {
        Vec::new()
    }
}

/// A host whose handler does all.
pub(crate) fn host() -> Host<'static> {
    let able = Able { intel_rdt: true, net_devices: true, mapped_mounts: true };
    Host { nodes: &Fake, mounts: &Fake, able }
}

fn spec(more: Value) -> Spec {
    let mut spec = json!({
        "ociVersion": "1.1.0",
        "process": { "cwd": "/", "env": ["PATH=/bin", "A=old"], "user": { "uid": 0, "gid": 0 } },
        "mounts": [
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/a/b", "type": "bind", "source": "/x", "options": ["rbind"] },
        ],
        "linux": { "devices": [{ "path": "/dev/gone", "type": "c", "major": 1, "minor": 3 }],
                   "resources": { "devices": [{ "allow": false, "access": "rwm" }] } },
    });
    for (pointer, value) in more.as_object().unwrap() {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn userns() -> Value {
    json!({ "/linux/namespaces": [{ "type": "user", "path": "/proc/1/ns/user" }],
            "/linux/gidMappings": [{ "containerID": 0, "hostID": 100_000, "size": 65_536 }] })
}

fn edit(spec: &mut Spec, edits: Value) -> Result<Value, Refusal> {
    let edits: Edits = serde_json::from_value(edits).unwrap();
    apply(spec, &edits, &host())?;
    Ok(serde_json::to_value(spec).unwrap())
}

fn nodes(made: &Value) -> BTreeMap<&str, &Value> {
    let all = made["linux"]["devices"].as_array().unwrap();
    all.iter().map(|node| (node["path"].as_str().unwrap(), node)).collect()
}

#[test]
fn variables_change_where_they_are() {
    let made = edit(&mut spec(json!({})), json!({ "env": ["N=1", "A=new", "N=2=3"] })).unwrap();
    assert_eq!(made["process"]["env"], json!(["PATH=/bin", "A=new", "N=2=3"]));
}

#[test]
fn nodes_take_from_the_host_what_the_file_leaves_out() {
    let asked = json!({ "deviceNodes": [
        { "path": "/dev/gone", "hostPath": "/dev/card" },
        { "path": "/dev//disk", "permissions": "wr", "fileMode": 0o600, "uid": 5, "gid": 6 },
        { "path": "/dev/made", "type": "c", "major": 240, "minor": 7, "permissions": "none" },
        { "path": "/run/pipe" },
        { "path": "/dev/card", "type": "c", "minor": 9 },
    ]});
    let made = edit(&mut spec(json!({ "/process/user": { "uid": 1000, "gid": 0 } })), asked).unwrap();
    let nodes = nodes(&made);
    assert_eq!(nodes.len(), 5);
    assert_eq!(
        nodes["/dev/gone"],
        &json!({ "path": "/dev/gone", "type": "c", "major": 10, "minor": 20, "fileMode": 0o640, "uid": 1000 })
    );
    assert_eq!(
        nodes["/dev/disk"],
        &json!({ "path": "/dev/disk", "type": "b", "major": 8, "minor": 1, "fileMode": 0o600, "uid": 5, "gid": 6 })
    );
    assert_eq!(nodes["/dev/made"], &json!({ "path": "/dev/made", "type": "c", "major": 240, "minor": 7, "uid": 1000 }));
    assert_eq!((&nodes["/run/pipe"]["type"], &nodes["/run/pipe"]["major"]), (&json!("p"), &json!(0)));
    assert_eq!(nodes["/dev/card"]["minor"], 20, "without a major number both are the host's");
    let rules = made["linux"]["resources"]["devices"].as_array().unwrap();
    let texts: Vec<String> = rules[1..]
        .iter()
        .map(|r| {
            format!("{} {} {}:{} {}", r["allow"], r["type"].as_str().unwrap(), r["major"], r["minor"], r["access"])
        })
        .collect();
    let want = ["true c 10:20 \"rwm\"", "true b 8:1 \"rw\"", "true c 10:20 \"rwm\""];
    assert_eq!(texts, want, "none for a pipe, and none for no permission");
}

#[test]
fn nodes_that_the_host_does_not_have() {
    for (asked, want) in [
        (json!({ "path": "/dev/none" }), "look at the host's /dev/none: "),
        (json!({ "path": "/dev/none", "type": "c" }), "look at the host's /dev/none: "),
        (json!({ "path": "/dev/x", "hostPath": "/etc/hosts" }), "/etc/hosts of the host is no device"),
        (json!({ "path": "/dev/card", "type": "b" }), "the host's /dev/card is not of the type \"b\""),
    ] {
        let error = edit(&mut spec(json!({})), json!({ "deviceNodes": [asked] })).unwrap_err();
        assert!(error.to_string().starts_with(want), "{error}");
    }
}

#[test]
fn in_a_user_namespace_nodes_are_the_hosts() {
    let asked = json!({ "deviceNodes": [
        { "path": "/dev/card" },
        { "path": "/dev/other", "hostPath": "/dev/disk", "permissions": "r" },
    ]});
    let made = edit(&mut spec(userns()), asked).unwrap();
    assert_eq!(nodes(&made).into_keys().collect::<Vec<_>>(), ["/dev/card", "/dev/gone"]);
    let mounts = made["mounts"].as_array().unwrap();
    let other = mounts.iter().find(|m| m["destination"] == "/dev/other").unwrap();
    assert_eq!((&other["source"], &other["type"]), (&json!("/dev/disk"), &json!("bind")));
    assert_eq!(made["linux"]["resources"]["devices"].as_array().unwrap().len(), 3);
    for (asked, want) in [
        (json!({ "path": "/dev/none", "type": "c", "major": 5 }), "look at the host's /dev/none"),
        (json!({ "path": "/dev/card", "type": "c", "major": 5, "minor": 1 }), "/dev/card is another device"),
    ] {
        let error = edit(&mut spec(userns()), json!({ "deviceNodes": [asked] })).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn mounts_replace_and_are_ordered() {
    let asked = json!({ "mounts": [
        { "hostPath": "/lib/a", "containerPath": "/a/b/c/", "options": ["ro", "bind"] },
        { "hostPath": "/lib/b", "containerPath": "/a//b" },
        { "hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs", "options": ["size=1m"] },
    ]});
    let made = edit(&mut spec(json!({})), asked).unwrap();
    assert_eq!(
        made["mounts"],
        json!([
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"] },
            { "destination": "/a/b", "type": "bind", "source": "/lib/b", "options": ["rbind"] },
            { "destination": "/a/b/c", "type": "bind", "source": "/lib/a", "options": ["ro", "bind"] },
        ])
    );
    let error = edit(&mut spec(json!({})), json!({ "mounts": [{ "hostPath": "/missing/x", "containerPath": "/x" }] }));
    assert_eq!(error.unwrap_err().to_string(), "the mount's source /missing/x does not exist");
}

#[test]
fn mounts_propagate_where_the_host_does() {
    let one = |source: &str, option: &str| {
        let mount = json!({ "hostPath": source, "containerPath": "/p", "options": ["rbind", option] });
        let made = edit(&mut spec(json!({})), json!({ "mounts": [mount] }));
        made.map(|made| made["linux"]["rootfsPropagation"].clone())
    };
    assert_eq!(one("/shared", "rshared").unwrap(), "rshared");
    assert_eq!(one("/slave", "rslave").unwrap(), "rslave");
    assert_eq!(one("/private", "rprivate").unwrap(), Value::Null);
    assert!(one("/slave", "shared").is_err() && one("/private", "slave").is_err());
}

#[test]
fn in_a_user_namespace_the_ids_of_mounts_are_mapped() {
    let asked = json!({ "mounts": [
        { "hostPath": "/one", "containerPath": "/one", "options": ["bind"] },
        { "hostPath": "/all", "containerPath": "/all", "options": ["rbind", "ro"] },
        { "hostPath": "/own", "containerPath": "/own", "options": ["rbind", "idmap"] },
        { "hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs" },
    ]});
    let made = edit(&mut spec(userns()), asked.clone()).unwrap();
    let options: BTreeMap<_, _> = made["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["destination"].as_str().unwrap(), m["options"].clone()))
        .collect();
    assert_eq!(options["/one"], json!(["bind", "idmap"]));
    assert_eq!(options["/all"], json!(["rbind", "ro", "ridmap"]));
    assert_eq!(options["/own"], json!(["rbind", "idmap"]));
    assert_eq!(options["/t"], Value::Null);
    let edits: Edits = serde_json::from_value(asked).unwrap();
    let unable = Host { able: Able { mapped_mounts: false, ..host().able }, ..host() };
    assert!(matches!(apply(&mut spec(userns()), &edits, &unable), Err(Refusal::Unsupported(_))));
}

#[test]
fn hooks_are_added_to_what_there_is() {
    let before = json!({ "/hooks": { "createContainer": [{ "path": "/first" }] } });
    let names = crate::check::HOOKS;
    let asked: Vec<Value> = names
        .iter()
        .map(|name| json!({ "hookName": name, "path": "/hook", "args": ["hook", name], "env": ["A=b"], "timeout": 2 }))
        .collect();
    let made = edit(&mut spec(before), json!({ "hooks": asked })).unwrap();
    for name in names {
        let last = made["hooks"][name].as_array().unwrap().last().unwrap();
        assert_eq!(last, &json!({ "path": "/hook", "args": ["hook", name], "env": ["A=b"], "timeout": 2 }));
    }
    assert_eq!(made["hooks"]["createContainer"][0]["path"], "/first");
}

#[test]
fn groups_are_added_once_and_have_to_be_mapped() {
    let user = json!({ "/process/user": { "uid": 0, "gid": 0, "additionalGids": [3] } });
    let made = edit(&mut spec(user), json!({ "additionalGids": [0, 4, 3, 4] })).unwrap();
    assert_eq!(made["process"]["user"]["additionalGids"], json!([3, 4]));
    edit(&mut spec(userns()), json!({ "additionalGids": [65_535] })).unwrap();
    let error = edit(&mut spec(userns()), json!({ "additionalGids": [65_536] })).unwrap_err().to_string();
    assert_eq!(error, "the pod's user namespace has no group 65536 (additionalGids)");
}

#[test]
fn what_only_some_handlers_do() {
    let rdt = json!({ "intelRdt": { "closID": "gold", "schemata": ["L3:0=f"], "enableCMT": true } });
    let net = json!({ "netDevices": [{ "hostInterfaceName": "eth7", "name": "net1" }] });
    let made = edit(&mut spec(json!({})), rdt.clone()).unwrap();
    assert_eq!(
        made["linux"]["intelRdt"],
        json!({ "closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": true })
    );
    let made = edit(&mut spec(json!({})), net.clone()).unwrap();
    assert_eq!(made["linux"]["netDevices"], json!({ "eth7": { "name": "net1" } }));
    for (asked, want) in [(rdt, "intelRdt"), (net, "netDevices")] {
        let edits: Edits = serde_json::from_value(asked).unwrap();
        let unable = Host { able: Able::default(), ..host() };
        let Err(Refusal::Unsupported(reason)) = apply(&mut spec(json!({})), &edits, &unable) else {
            panic!("{want} was done");
        };
        assert!(reason.starts_with("the runtime handler does not") && reason.contains(want), "{reason}");
    }
}
