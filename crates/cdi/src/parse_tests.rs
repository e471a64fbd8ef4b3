use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Format, MAX_BYTES, parse};
use crate::model::{Device, DeviceNode, Edits, Hook, IntelRdt, Mount, NetDevice, Specification};

/// As programs and people write them.
const YAML: &str = r#"---
cdiVersion: 0.6.0
kind: vendor.com/net   # a comment
devices:
- name: 0
  annotations: {note: yes}
  containerEdits: &edits
    deviceNodes:
    - path: /dev/net/tun
      fileMode: 0660
      permissions: rw
    hooks:
      - hookName: createContainer
        path: "/usr/bin/hook"
        args: [hook, '--flag']
        timeout: 5
- name: "other"
  containerEdits: *edits
containerEdits:
  env:
    - "GREETING=hello: world"
    - VALUE=#1
  mounts: ~
"#;

#[test]
fn yaml_as_it_is_written() {
    let spec = parse(YAML.as_bytes(), Format::Yaml).unwrap();
    assert_eq!((spec.kind.as_str(), spec.devices.len()), ("vendor.com/net", 2));
    assert_eq!(spec.devices[0].name, "0");
    assert_eq!(spec.devices[0].annotations["note"], "yes");
    assert_eq!(spec.devices[0].container_edits, spec.devices[1].container_edits);
    let edits = &spec.devices[0].container_edits;
    assert_eq!(edits.device_nodes[0].file_mode, Some(0o660));
    assert_eq!(
        (edits.hooks[0].args.as_slice(), edits.hooks[0].timeout),
        (&["hook".into(), "--flag".into()][..], Some(5))
    );
    assert_eq!(spec.container_edits.env, ["GREETING=hello: world", "VALUE=#1"]);
}

#[test]
fn what_is_no_file_is_said_in_one_line() {
    let bomb = format!(
        "a0: &a0 [x, x, x, x, x, x, x, x]\n{}",
        (1..40).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 8].join(", "))).collect::<String>()
    );
    let deep = "[".repeat(100_000);
    let twice = "cdiVersion: 0.6.0\nkind: a/b\nkind: a/c\ndevices: []\n";
    for text in ["", "null", "{}", "[]", "x", "\0", "\u{feff}", "a: [", "--- a\n--- b\n", twice, &bomb, &deep] {
        for format in [Format::Yaml, Format::Json] {
            let error = parse(text.as_bytes(), format).unwrap_err();
            assert!(!error.is_empty() && error.len() < 2000 && !error.contains('\n'), "{error}");
        }
    }
    for format in [Format::Yaml, Format::Json] {
        parse(b"\xff\xfe\xfd", format).unwrap_err();
    }
    assert!(parse(br#"{"kind":"a/b","kind":"a/c"}"#, Format::Json).unwrap_err().contains("duplicate field"));
    let long = vec![b' '; MAX_BYTES as usize + 1];
    assert!(parse(&long, Format::Json).unwrap_err().contains("is longer than"));
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9_.-]{0,6}[a-z0-9]"
}

fn variable() -> impl Strategy<Value = String> {
    ("[A-Z_]{1,5}", any::<String>()).prop_map(|(name, value)| format!("{name}={}", value.replace('\0', "")))
}

fn path() -> impl Strategy<Value = String> {
    "/[a-z]{1,4}(/[a-z]{1,4}){0,2}"
}

fn edits() -> impl Strategy<Value = Edits> {
    let env = prop::collection::vec(variable(), 1..3);
    let numbers = (0..300i64, 0..300i64, prop::option::of(0..=0o7777u32), any::<Option<u32>>());
    let node =
        (path(), prop_oneof![Just("b"), Just("c"), Just("")], numbers, prop_oneof![Just(""), Just("rw"), Just("none")]);
    let node = node.prop_map(|(path, kind, (major, minor, file_mode, uid), permissions)| DeviceNode {
        path,
        kind: kind.into(),
        major,
        minor,
        file_mode,
        uid,
        permissions: permissions.into(),
        ..DeviceNode::default()
    });
    let hook = (0..crate::check::HOOKS.len(), path(), prop::collection::vec("[ -~]{0,8}", 0..3), 1..99i64);
    let hook = hook.prop_map(|(name, path, args, timeout)| Hook {
        hook_name: crate::check::HOOKS[name].into(),
        path,
        args,
        timeout: Some(timeout),
        ..Hook::default()
    });
    let mount = (path(), path(), prop::collection::vec("(ro|rbind|nosuid)", 0..3));
    let mount = mount.prop_map(|(host_path, container_path, options)| Mount {
        host_path,
        container_path,
        options,
        ..Mount::default()
    });
    let rdt = (word(), any::<bool>(), prop::option::of(prop::collection::vec("[A-Z]{1,3}:[0-9]=f", 0..2)));
    let rdt = prop::option::of(rdt.prop_map(|(clos_id, enable_monitoring, schemata)| IntelRdt {
        clos_id,
        enable_monitoring,
        schemata,
        ..IntelRdt::default()
    }));
    let interface = "[a-z]{1,5}".prop_map(|name| NetDevice { host_interface_name: format!("h{name}"), name });
    let lists = (
        prop::collection::vec(node, 0..2),
        prop::collection::vec(hook, 0..2),
        prop::collection::vec(mount, 0..2),
        prop::collection::vec(interface, 0..2),
    );
    (env, lists, rdt, prop::collection::vec(any::<u32>(), 0..2)).prop_filter_map(
        "an interface twice",
        |(env, (device_nodes, hooks, mounts, net_devices), intel_rdt, additional_gids)| {
            let twice = net_devices.len() == 2 && net_devices[0] == net_devices[1];
            let edits = Edits { env, device_nodes, net_devices, hooks, mounts, intel_rdt, additional_gids };
            (!twice).then_some(edits)
        },
    )
}

fn specification() -> impl Strategy<Value = Specification> {
    let devices = prop::collection::btree_map(word(), edits(), 1..3);
    let annotations = prop::collection::btree_map(word(), any::<String>(), 0..2);
    (word(), word(), annotations, devices, edits()).prop_map(
        |(vendor, class, annotations, devices, container_edits)| {
            let device = |(name, container_edits)| Device { name, annotations: BTreeMap::new(), container_edits };
            Specification {
                cdi_version: "1.1.0".into(),
                kind: format!("{vendor}/{class}"),
                annotations,
                devices: devices.into_iter().map(device).collect(),
                container_edits,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_and_json_is_yaml(spec in specification()) {
        let text = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(parse(text.as_bytes(), Format::Json), Ok(spec.clone()));
        // YAML has no raw control characters, which JSON escapes all but DEL and those of C1.
        let odd = |c: char| ('\u{7f}'..='\u{9f}').contains(&c) || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
        if !text.contains(odd) {
            prop_assert_eq!(parse(text.as_bytes(), Format::Yaml), Ok(spec));
        }
    }

    #[test]
    fn noise_is_refused_in_time(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes, Format::Json);
        let _ = parse(&bytes, Format::Yaml);
    }
}
