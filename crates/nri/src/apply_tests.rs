use std::collections::BTreeMap;
use std::path::Path;

use cricket_oci::{HostDevice, PathKind, Propagation};
use serde_json::{Value, json};

use super::*;
use crate::api::{self, KeyValue, LinuxContainerAdjustment};

/// A host whose `/shared` and `/slave` are what they are called.
struct Host;

impl MountFacts for Host {
    fn kind(&self, _: &Path) -> PathKind {
        PathKind::Directory
    }
    fn propagation(&self, path: &Path) -> Propagation {
        match path.to_str() {
            Some("/shared") => Propagation::Shared,
            Some("/slave") => Propagation::Slave,
            _ => Propagation::Private,
        }
    }
    fn devices(&self, _: &Path) -> Vec<HostDevice> {
        Vec::new()
    }
}

fn spec() -> Spec {
    serde_json::from_value(json!({
        "ociVersion": "1.1.0",
        "root": { "path": "/rootfs" },
        "process": {
            "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["sleep", "1"], "env": ["A=1", "B=2", "PATH=/bin"],
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 10, "soft": 10 }], "oomScoreAdj": 5
        },
        "annotations": { "keep": "k", "drop": "d" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/a/b", "type": "bind", "source": "/old" },
            { "destination": "/gone", "type": "bind", "source": "/gone" }
        ],
        "linux": {
            "namespaces": [{ "type": "ipc", "path": "/ipc" }, { "type": "uts" }, { "type": "mount" }],
            "devices": [{ "path": "/dev/old", "type": "c", "major": 1, "minor": 5 }],
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": { "limit": 100, "swap": 100 }, "cpu": { "shares": 2 }
            }
        }
    }))
    .unwrap()
}

fn applied(adjust: &ContainerAdjustment) -> Result<Value> {
    let mut spec = spec();
    apply(&mut spec, adjust, &Facts { mounts: &Host, cdi: None })?;
    Ok(serde_json::to_value(&spec).unwrap())
}

fn linux(linux: LinuxContainerAdjustment) -> ContainerAdjustment {
    ContainerAdjustment { linux: Some(linux), ..Default::default() }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn nothing_changes_nothing() {
    let before = serde_json::to_value(spec()).unwrap();
    let mut empty = linux(LinuxContainerAdjustment { resources: Some(Default::default()), ..Default::default() });
    empty.hooks = Some(Default::default());
    assert_eq!(applied(&empty).unwrap(), before);
    assert_eq!(applied(&ContainerAdjustment::default()).unwrap(), before);
}

#[test]
fn annotations_environment_arguments_and_hooks() {
    let variable = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
    let hook = api::Hook {
        path: "/bin/h".into(),
        args: vec!["h".into()],
        timeout: Some(api::OptionalInt { value: 3 }),
        ..Default::default()
    };
    let adjust = ContainerAdjustment {
        annotations: pairs(&[("-drop", ""), ("-new", ""), ("new", "n")]),
        env: vec![variable("-B", ""), variable("A", "x=y"), variable("C", "3"), variable("-C", "")],
        args: vec!["true".into()],
        hooks: Some(api::Hooks { create_runtime: vec![hook], ..Default::default() }),
        rlimits: vec![
            api::PosixRlimit { r#type: "nofile".into(), hard: 20, soft: 15 },
            api::PosixRlimit { r#type: "RLIMIT_CORE".into(), hard: 0, soft: 0 },
        ],
        ..Default::default()
    };
    let spec = applied(&adjust).unwrap();
    assert_eq!(spec["annotations"], json!({ "keep": "k", "new": "n" }));
    assert_eq!(spec["process"]["env"], json!(["A=x=y", "PATH=/bin", "C=3"]));
    assert_eq!(spec["process"]["args"], json!(["true"]));
    assert_eq!(spec["hooks"], json!({ "createRuntime": [{ "path": "/bin/h", "args": ["h"], "timeout": 3 }] }));
    let limits = json!([
        { "type": "RLIMIT_NOFILE", "hard": 20, "soft": 15 },
        { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 }
    ]);
    assert_eq!(spec["process"]["rlimits"], limits);
}

#[test]
fn mounts_are_replaced_removed_and_ordered() {
    let mount = |destination: &str, source: &str, options: &[&str]| api::Mount {
        destination: destination.into(),
        r#type: "bind".into(),
        source: source.into(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
    };
    let adjust = |mounts| ContainerAdjustment { mounts, ..Default::default() };
    let spec = applied(&adjust(vec![
        mount("/a/b", "/new", &["ro", "rprivate"]),
        mount("/a", "/slave", &["rslave"]),
        mount("-/gone", "", &[]),
    ]))
    .unwrap();
    let expected = json!([
        { "destination": "/a", "type": "bind", "source": "/slave", "options": ["rslave"] },
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/a/b", "type": "bind", "source": "/new", "options": ["ro", "rprivate"] }
    ]);
    assert_eq!((&spec["mounts"], &spec["linux"]["rootfsPropagation"]), (&expected, &json!("rslave")));
    for wrong in [
        mount("a", "/x", &[]),
        mount("/a/../b", "/x", &[]),
        mount("/a", "/x", &["rslave"]),
        mount("/a", "/slave", &["rshared"]),
        mount("/a", "/x", &["relabel"]),
    ] {
        assert!(applied(&adjust(vec![wrong.clone()])).is_err(), "{wrong:?}");
    }
    assert!(applied(&adjust(vec![mount("/a", "/shared", &["rshared"])])).is_ok());
}

#[test]
fn devices_namespaces_and_sysctls() {
    let device = |path: &str, mode: Option<u32>| api::LinuxDevice {
        path: path.into(),
        r#type: "b".into(),
        major: 8,
        minor: 1,
        file_mode: mode.map(|value| api::OptionalFileMode { value }),
        uid: Some(api::OptionalUInt32 { value: 7 }),
        gid: None,
    };
    let namespace = |kind: &str, path: &str| api::LinuxNamespace { r#type: kind.into(), path: path.into() };
    let spec = applied(&linux(LinuxContainerAdjustment {
        devices: vec![device("-/dev/old", None), device("/dev/new", Some(0o444)), device("/dev/any", None)],
        namespaces: vec![namespace("-uts", ""), namespace("ipc", "/other"), namespace("cgroup", "")],
        sysctl: pairs(&[("-net.x", ""), ("net.y", "1")]),
        net_devices: BTreeMap::from([("eth9".to_owned(), api::LinuxNetDevice { name: "in".into() })]),
        cgroups_path: "/cg".into(),
        ..Default::default()
    }))
    .unwrap();
    let node = |path: &str| json!({ "path": path, "type": "b", "major": 8, "minor": 1, "uid": 7 });
    let mut new = node("/dev/new");
    new["fileMode"] = 0o444.into();
    assert_eq!(spec["linux"]["devices"], json!([new, node("/dev/any")]));
    let rules = &spec["linux"]["resources"]["devices"];
    let rule = |access: &str| json!({ "allow": true, "type": "b", "major": 8, "minor": 1, "access": access });
    assert_eq!(rules, &json!([{ "allow": false, "access": "rwm" }, rule("rm"), rule("rwm")]));
    let namespaces = json!([{ "type": "ipc", "path": "/other" }, { "type": "mount" }, { "type": "cgroup" }]);
    assert_eq!(spec["linux"]["namespaces"], namespaces);
    assert_eq!(spec["linux"]["sysctl"], json!({ "net.y": "1" }));
    assert_eq!(spec["linux"]["netDevices"], json!({ "eth9": { "name": "in" } }));
    assert_eq!(spec["linux"]["cgroupsPath"], json!("/cg"));
}

#[test]
fn resources_are_set_one_by_one() {
    let int = |value| Some(api::OptionalInt64 { value });
    let unsigned = |value| Some(api::OptionalUInt64 { value });
    let spec = applied(&linux(LinuxContainerAdjustment {
        resources: Some(api::LinuxResources {
            memory: Some(api::LinuxMemory { limit: int(200), reservation: int(50), ..Default::default() }),
            cpu: Some(api::LinuxCpu {
                quota: int(1000),
                period: unsigned(2000),
                cpus: "0-1".into(),
                ..Default::default()
            }),
            hugepage_limits: vec![api::HugepageLimit { page_size: "2MB".into(), limit: 5 }],
            unified: pairs(&[("memory.high", "7")]),
            pids: Some(api::LinuxPids { limit: 9 }),
            rdt_class: Some(api::OptionalString { value: "gold".into() }),
            ..Default::default()
        }),
        rdt: Some(api::LinuxRdt { enable_monitoring: Some(api::OptionalBool { value: true }), ..Default::default() }),
        ..Default::default()
    }))
    .unwrap();
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["memory"], json!({ "limit": 200, "swap": 200, "reservation": 50 }));
    assert_eq!(resources["cpu"], json!({ "shares": 2, "quota": 1000, "period": 2000, "cpus": "0-1" }));
    assert_eq!(resources["hugepageLimits"], json!([{ "pageSize": "2MB", "limit": 5 }]));
    assert_eq!((&resources["unified"], &resources["pids"]), (&json!({ "memory.high": "7" }), &json!({ "limit": 9 })));
    assert_eq!(spec["linux"]["intelRdt"], json!({ "closID": "gold", "enableMonitoring": true }));
}

#[test]
fn scores_schedulers_and_policies() {
    let spec = applied(&linux(LinuxContainerAdjustment {
        oom_score_adj: Some(api::OptionalInt { value: -7 }),
        io_priority: Some(api::LinuxIoPriority { class: api::IoPrioClass::IoprioClassIdle.into(), priority: 3 }),
        scheduler: Some(api::LinuxScheduler {
            policy: api::LinuxSchedulerPolicy::SchedRr.into(),
            priority: 4,
            ..Default::default()
        }),
        memory_policy: Some(api::LinuxMemoryPolicy {
            mode: api::MpolMode::MpolBind.into(),
            nodes: "0".into(),
            flags: vec![api::MpolFlag::MpolFStaticNodes.into()],
        }),
        seccomp_policy: Some(api::LinuxSeccomp {
            default_action: "SCMP_ACT_ERRNO".into(),
            architectures: vec!["SCMP_ARCH_X86_64".into()],
            syscalls: vec![api::LinuxSyscall {
                names: vec!["read".into()],
                action: "SCMP_ACT_ALLOW".into(),
                args: vec![api::LinuxSeccompArg { index: 1, value: 2, value_two: 3, op: "SCMP_CMP_EQ".into() }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }))
    .unwrap();
    assert_eq!(spec["process"]["oomScoreAdj"], json!(-7));
    assert_eq!(spec["process"]["ioPriority"], json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 3 }));
    assert_eq!(spec["process"]["scheduler"], json!({ "policy": "SCHED_RR", "priority": 4 }));
    let policy = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    assert_eq!(spec["linux"]["memoryPolicy"], policy);
    let call = json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_EQ" }] });
    let seccomp =
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [call] });
    assert_eq!(spec["linux"]["seccomp"], seccomp);
}

#[test]
fn what_cannot_be_said_is_refused() {
    let limit = |kind: &str, soft, hard| ContainerAdjustment {
        rlimits: vec![api::PosixRlimit { r#type: kind.into(), hard, soft }],
        ..Default::default()
    };
    let class = Some(api::OptionalString { value: "fast".into() });
    let flag = api::LinuxSchedulerFlag::SchedFlagDlOverrun.into();
    let refused = [
        limit("nothing", 1, 1),
        limit("core", 2, 1),
        ContainerAdjustment { cdi_devices: vec![api::CdiDevice { name: "v/c=d".into() }], ..Default::default() },
        linux(LinuxContainerAdjustment { oom_score_adj: Some(api::OptionalInt { value: 1001 }), ..Default::default() }),
        linux(LinuxContainerAdjustment {
            namespaces: vec![api::LinuxNamespace { r#type: "net?".into(), path: String::new() }],
            ..Default::default()
        }),
        linux(LinuxContainerAdjustment {
            devices: vec![api::LinuxDevice { path: "dev/x".into(), r#type: "c".into(), ..Default::default() }],
            ..Default::default()
        }),
        linux(LinuxContainerAdjustment {
            resources: Some(api::LinuxResources { blockio_class: class, ..Default::default() }),
            ..Default::default()
        }),
        linux(LinuxContainerAdjustment {
            seccomp_policy: Some(api::LinuxSeccomp { default_action: "allow".into(), ..Default::default() }),
            ..Default::default()
        }),
        // The specification's types cannot spell this flag as runtimes read it.
        linux(LinuxContainerAdjustment {
            scheduler: Some(api::LinuxScheduler { policy: 1, flags: vec![flag], ..Default::default() }),
            ..Default::default()
        }),
    ];
    for adjust in refused {
        assert!(applied(&adjust).is_err(), "{adjust:?}");
    }
}

#[test]
fn cdi_devices_go_to_who_resolves_them() {
    let adjust =
        ContainerAdjustment { cdi_devices: vec![api::CdiDevice { name: "v/c=d".into() }], ..Default::default() };
    let inject = |spec: &mut Spec, names: &[String]| {
        spec.set_hostname(Some(names.join(",")));
        Ok(())
    };
    let mut spec = spec();
    apply(&mut spec, &adjust, &Facts { mounts: &Host, cdi: Some(&inject) }).unwrap();
    assert_eq!(spec.hostname().as_deref(), Some("v/c=d"));
    let refuse = |_: &mut Spec, _: &[String]| Err("unknown".to_owned());
    assert!(apply(&mut spec, &adjust, &Facts { mounts: &Host, cdi: Some(&refuse) }).is_err());
}

#[test]
fn what_plugins_are_shown_of_a_specification_is_what_adjusting_takes() {
    let seen = crate::describe::container(&spec(), api::Container { id: "c".into(), ..Default::default() });
    assert_eq!((seen.id.as_str(), seen.args.len(), seen.env.len(), seen.mounts.len()), ("c", 2, 3, 3));
    assert_eq!(seen.rlimits[0].r#type, "RLIMIT_NOFILE");
    let linux = seen.linux.unwrap();
    assert_eq!(linux.namespaces[0], api::LinuxNamespace { r#type: "ipc".into(), path: "/ipc".into() });
    assert_eq!(linux.oom_score_adj, Some(api::OptionalInt { value: 5 }));
    let mut resources = linux.resources.unwrap();
    assert_eq!(resources.memory.unwrap().limit, Some(api::OptionalInt64 { value: 100 }));
    // Device rules add up; the rest is the same again.
    resources.devices.clear();
    let again = ContainerAdjustment {
        env: seen
            .env
            .iter()
            .map(|e| e.split_once('=').unwrap())
            .map(|(k, v)| KeyValue { key: k.into(), value: v.into() })
            .collect(),
        rlimits: seen.rlimits,
        linux: Some(LinuxContainerAdjustment {
            devices: Vec::new(),
            namespaces: linux.namespaces,
            resources: Some(resources),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(applied(&again).unwrap(), serde_json::to_value(super::tests::spec()).unwrap());
}
