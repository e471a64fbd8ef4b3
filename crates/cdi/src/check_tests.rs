use serde_json::{Value, json};

use crate::fuzzing::{Format, parse};

fn file() -> Value {
    json!({ "cdiVersion": "1.1.0", "kind": "vendor.com/class",
            "devices": [{ "name": "one", "containerEdits": { "env": ["A=b"] } }] })
}

/// What is wrong once `value` is at `pointer`, whose last part may be new.
fn with(pointer: &str, value: Value) -> Result<(), String> {
    let mut file = file();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match file.pointer_mut(parent).unwrap() {
        Value::Array(list) => list.push(value),
        parent => parent[key] = value,
    }
    parse(file.to_string().as_bytes(), Format::Json).map(drop)
}

const EDITS: &str = "/devices/0/containerEdits";

fn edit(name: &str, value: Value) -> Result<(), String> {
    with(&format!("{EDITS}/{name}"), value)
}

#[test]
fn what_is_allowed() {
    with("/annotations", json!({ "example.com/a": "b" })).unwrap();
    with("/kind", json!("a/b.c")).unwrap();
    with("/containerEdits", json!(null)).unwrap();
    with("/devices/1", json!({ "name": "0:x_y.z", "annotations": null, "containerEdits": { "additionalGids": [5] } }))
        .unwrap();
    edit("deviceNodes", json!([{ "path": "/dev/a" }, { "path": "/dev/b", "type": "p", "permissions": "none" }]))
        .unwrap();
    edit(
        "deviceNodes",
        json!([{ "path": "/dev/a", "hostPath": "/dev/b", "type": "b", "major": 1, "minor": 2,
        "fileMode": 0o660, "permissions": "mr", "uid": 1, "gid": 2 }]),
    )
    .unwrap();
    edit("netDevices", json!([{ "hostInterfaceName": "eth0", "name": "net1" }])).unwrap();
    edit(
        "mounts",
        json!([{ "hostPath": "/a/../b", "containerPath": "/c", "options": ["ro"] },
        { "hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs" }]),
    )
    .unwrap();
    edit("intelRdt", json!({ "closID": "/" })).unwrap();
    edit("intelRdt", json!({})).unwrap();
    for hook in crate::check::HOOKS {
        edit("hooks", json!([{ "hookName": hook, "path": "/bin/x", "args": ["x"], "env": ["A="], "timeout": 3 }]))
            .unwrap();
    }
}

#[test]
fn what_is_not() {
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/kind", json!("vendor.com"), "separated by a slash"),
        ("/kind", json!("1v/c"), "from a letter"),
        ("/cdiVersion", json!(""), "is none from 0.3.0 to 1.1.0"),
        ("/cdiVersion", json!("0.2.0"), "is none from 0.3.0"),
        ("/cdiVersion", json!("1.2.0"), "is none from 0.3.0"),
        ("/devices", json!([]), "has no devices"),
        ("/devices", json!(null), "has no devices"),
        ("/devices/1", json!({ "name": "one", "containerEdits": { "env": ["A=b"] } }), "is there twice"),
        ("/devices/1", json!({ "name": "two" }), "has no containerEdits"),
        ("/devices/1", json!({ "name": "two", "containerEdits": { "env": [] } }), "has no containerEdits"),
        ("/devices/0/name", json!("-"), "a device's name is"),
        ("/devices/0/more", json!(1), "unknown field `more`"),
        ("/more", json!(1), "unknown field `more`"),
        ("/containerEdits", json!({ "env": ["=b"] }), "is not NAME=VALUE"),
        ("/devices/0/containerEdits/env", json!(["A"]), "is not NAME=VALUE"),
        ("/devices/0/containerEdits/env", json!(["A=\0"]), "is not NAME=VALUE"),
    ];
    for (pointer, value, want) in cases {
        let error = with(pointer, value.clone()).expect_err(&format!("{pointer} {value}"));
        assert!(error.contains(want), "{pointer} {value}: {error}");
    }
    let edits: Vec<(&str, Value, &str)> = vec![
        ("deviceNodes", json!([{}]), "path of a device node \"\" is not an absolute path"),
        ("deviceNodes", json!([{ "path": "dev/a" }]), "is not an absolute path"),
        ("deviceNodes", json!([{ "path": "//" }]), "is not an absolute path"),
        ("deviceNodes", json!([{ "path": "/dev/../a" }]), "has \"..\" in it"),
        ("deviceNodes", json!([{ "path": "/a", "hostPath": "b" }]), "hostPath \"b\" is not an absolute path"),
        ("deviceNodes", json!([{ "path": "/a", "type": "x" }]), "is none of b, c, u, p"),
        ("deviceNodes", json!([{ "path": "/a", "permissions": "rx" }]), "are not made of r, w and m"),
        ("deviceNodes", json!([{ "path": "/a", "major": -1 }]), "is none of a device"),
        ("deviceNodes", json!([{ "path": "/a", "minor": 1u64 << 32 }]), "is none of a device"),
        ("deviceNodes", json!([{ "path": "/a", "fileMode": 0o20666 }]), "more than permission bits"),
        ("netDevices", json!([{ "name": "a" }]), "is no name of an interface"),
        ("netDevices", json!([{ "hostInterfaceName": "0123456789abcdef", "name": "a" }]), "is no name of an interface"),
        ("netDevices", json!([{ "hostInterfaceName": "a", "name": "b/c" }]), "is no name of an interface"),
        (
            "netDevices",
            json!([{ "hostInterfaceName": "a", "name": "x" }, { "hostInterfaceName": "b", "name": "x" }]),
            "is there twice",
        ),
        ("mounts", json!([{ "hostPath": "/a" }]), "containerPath of a mount"),
        ("mounts", json!([{ "hostPath": "/a", "containerPath": "/" }]), "containerPath of a mount"),
        ("mounts", json!([{ "hostPath": "/a", "containerPath": "/a/../.." }]), "has \"..\" in it"),
        ("mounts", json!([{ "hostPath": "a", "containerPath": "/a" }]), "hostPath \"a\" is not an absolute path"),
        ("mounts", json!([{ "containerPath": "/a", "type": "tmpfs" }]), "not those of a mount"),
        ("hooks", json!([{ "hookName": "stop", "path": "/a" }]), "is none of prestart"),
        ("hooks", json!([{ "hookName": "poststop", "path": "a" }]), "poststop hook: path \"a\""),
        ("hooks", json!([{ "hookName": "poststop", "path": "/a", "timeout": 0 }]), "is not more than 0"),
        ("hooks", json!([{ "hookName": "poststop", "path": "/a", "env": ["A"] }]), "is not NAME=VALUE"),
        ("intelRdt", json!({ "closID": "a/b" }), "is no name of a class"),
        ("intelRdt", json!({ "closID": ".." }), "is no name of a class"),
        ("intelRdt", json!({ "closId": "a" }), "unknown field"),
        ("intelRdt", json!({ "closID": "a", "enableCMT": true }), "no enableCMT and enableMBM any more"),
        ("additionalGids", json!([-1]), "invalid value"),
    ];
    for (name, value, want) in edits {
        let error = edit(name, value.clone()).expect_err(&format!("{name} {value}"));
        assert!(error.contains(want), "{name} {value}: {error}");
    }
}

#[test]
fn what_needs_which_version() {
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/devices/0/name", json!("one"), "0.3.0"),
        (
            "/devices/0/containerEdits/mounts",
            json!([{ "hostPath": "t", "containerPath": "/t", "type": "tmpfs" }]),
            "0.4.0",
        ),
        ("/devices/0/name", json!("0"), "0.5.0"),
        ("/containerEdits", json!({ "deviceNodes": [{ "path": "/a", "hostPath": "/b" }] }), "0.5.0"),
        ("/annotations", json!({ "a": "b" }), "0.6.0"),
        ("/devices/0/annotations", json!({ "a": "b" }), "0.6.0"),
        ("/kind", json!("v/c.d"), "0.6.0"),
        ("/devices/0/containerEdits/additionalGids", json!([1]), "0.7.0"),
        ("/containerEdits", json!({ "intelRdt": { "closID": "x", "enableMBM": true } }), "0.7.0"),
        ("/containerEdits", json!({ "intelRdt": { "schemata": [] } }), "1.1.0"),
        ("/containerEdits", json!({ "netDevices": [{ "hostInterfaceName": "a", "name": "b" }] }), "1.1.0"),
    ];
    let known = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];
    for (pointer, value, needed) in cases {
        for version in known {
            let mut spec = file();
            spec["cdiVersion"] = json!(version);
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[key] = value.clone();
            let result = parse(spec.to_string().as_bytes(), Format::Json);
            let enough = version >= needed && !(value.to_string().contains("enableMBM") && version == "1.1.0");
            assert_eq!(result.is_ok(), enough, "{pointer} {value} in {version}: {result:?}");
        }
    }
    with("/cdiVersion", json!("v1.0.0")).unwrap();
}
