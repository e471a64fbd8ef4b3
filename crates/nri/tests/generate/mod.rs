//! Answers of plugins, chosen and random.

use std::collections::BTreeMap;
use std::fmt::Debug;

use cricket_nri::api::{
    self, Container, ContainerAdjustment, ContainerUpdate, CreateContainerResponse, Hook, Hooks, HugepageLimit,
    KeyValue, LinuxContainerAdjustment, LinuxContainerUpdate, LinuxCpu, LinuxDevice, LinuxMemory, LinuxNamespace,
    LinuxRdt, LinuxResources, Mount, OptionalInt64, OptionalString, OptionalUInt64, PosixRlimit,
    UpdateContainerResponse,
};
use proptest::prelude::*;

/// The container that is created or updated.
pub(crate) fn container() -> Container {
    Container {
        id: "own".into(),
        args: vec!["sleep".into()],
        env: vec!["A=1".into(), "B=2".into()],
        annotations: BTreeMap::from([("a".into(), "0".into())]),
        mounts: vec![mount("/a"), mount("/c")],
        ..Container::default()
    }
}

fn mount(destination: &str) -> Mount {
    Mount { destination: destination.into(), r#type: "bind".into(), source: "/src".into(), options: vec!["ro".into()] }
}

fn device(path: &str) -> LinuxDevice {
    LinuxDevice { path: path.into(), r#type: "c".into(), major: 1, minor: 3, ..LinuxDevice::default() }
}

fn int(value: i64) -> Option<OptionalInt64> {
    Some(OptionalInt64 { value })
}

type Case = (&'static str, Vec<CreateContainerResponse>, Option<&'static str>);

/// Cases by name: the answers of plugins in turn, and the conflict that they are.
pub(crate) fn table() -> Vec<Case> {
    let adjusted = |adjust| CreateContainerResponse { adjust: Some(adjust), ..CreateContainerResponse::default() };
    let mounts = |names: &[&str]| {
        adjusted(ContainerAdjustment { mounts: names.iter().map(|n| mount(n)).collect(), ..Default::default() })
    };
    let env = |names: &[&str]| {
        let env = names.iter().map(|n| KeyValue { key: (*n).into(), value: "v".into() }).collect();
        adjusted(ContainerAdjustment { env, ..Default::default() })
    };
    let annotations = |names: &[&str]| {
        let annotations = names.iter().map(|n| ((*n).to_owned(), "v".to_owned())).collect();
        adjusted(ContainerAdjustment { annotations, ..Default::default() })
    };
    let args = |args: &[&str]| {
        adjusted(ContainerAdjustment { args: args.iter().map(|a| (*a).to_owned()).collect(), ..Default::default() })
    };
    let linux = |linux| adjusted(ContainerAdjustment { linux: Some(linux), ..Default::default() });
    let limit = |value| {
        let memory = LinuxMemory { limit: int(value), ..Default::default() };
        let resources = LinuxResources { memory: Some(memory), ..Default::default() };
        linux(LinuxContainerAdjustment { resources: Some(resources), ..Default::default() })
    };
    let namespace = |names: &[&str]| {
        let namespaces = names.iter().map(|n| LinuxNamespace { r#type: (*n).into(), path: "/ns".into() }).collect();
        linux(LinuxContainerAdjustment { namespaces, ..Default::default() })
    };
    let rdt = |id: Option<&str>, remove| {
        let clos_id = id.map(|id| OptionalString { value: id.into() });
        linux(LinuxContainerAdjustment {
            rdt: Some(LinuxRdt { clos_id, remove, ..Default::default() }),
            ..Default::default()
        })
    };
    let hook = || {
        let hooks =
            Hooks { prestart: vec![Hook { path: "/bin/h".into(), ..Default::default() }], ..Default::default() };
        adjusted(ContainerAdjustment { hooks: Some(hooks), ..Default::default() })
    };
    let update = |id: &str, shares, ignore_failure| CreateContainerResponse {
        update: vec![shares_of(id, shares, ignore_failure)],
        ..CreateContainerResponse::default()
    };
    vec![
        ("nothing", vec![CreateContainerResponse::default()], None),
        ("two mounts", vec![mounts(&["/x"]), mounts(&["/y"])], None),
        (
            "same mount",
            vec![mounts(&["/x"]), mounts(&["/x"])],
            Some("plugins 10-second and 00-first both set Mounts /x"),
        ),
        ("a plugin with itself", vec![mounts(&["/x", "/x"])], Some("plugins 00-first and 00-first both set Mounts /x")),
        ("removed, then set", vec![mounts(&["/x"]), mounts(&["-/x", "/x"])], None),
        ("removed mount", vec![mounts(&["-/a"])], None),
        (
            "removed by one, set by another",
            vec![mounts(&["/x"]), mounts(&["-/x"]), mounts(&["/x"])],
            Some("plugins 20-third and 10-second both set Mounts /x"),
        ),
        ("removed of the container, set by another", vec![mounts(&["-/a"]), mounts(&["/a"])], None),
        ("env", vec![env(&["A"]), env(&["A"])], Some("plugins 10-second and 00-first both set Env A")),
        ("env taken over", vec![env(&["A"]), env(&["-A", "A"])], None),
        ("annotation taken over", vec![annotations(&["k"]), annotations(&["-k", "k"])], None),
        (
            "annotation",
            vec![annotations(&["k"]), annotations(&["k"])],
            Some("plugins 10-second and 00-first both set Annotations k"),
        ),
        ("annotation removed", vec![annotations(&["k"]), annotations(&["-k"])], None),
        ("args", vec![args(&["a"]), args(&["b"])], Some("plugins 10-second and 00-first both set Args")),
        ("args taken over", vec![args(&["a"]), args(&["", "b"])], None),
        ("hooks add up", vec![hook(), hook()], None),
        ("limit", vec![limit(1), limit(1)], Some("plugins 10-second and 00-first both set MemLimit")),
        ("namespaces", vec![namespace(&["-uts", "ipc"]), namespace(&["cgroup"])], None),
        (
            "namespace removed and set",
            vec![namespace(&["-uts", "uts"])],
            Some("plugins 00-first and 00-first both set Namespace uts"),
        ),
        (
            "rdt",
            vec![rdt(Some("a"), false), rdt(Some("b"), false)],
            Some("plugins 10-second and 00-first both set RdtClosID"),
        ),
        ("rdt taken over", vec![rdt(Some("a"), false), rdt(Some("b"), true)], None),
        ("rdt removed", vec![rdt(Some("a"), false), rdt(None, true)], None),
        ("update of another", vec![update("other", 1, false), update("another", 2, false)], None),
        (
            "update of the same",
            vec![update("other", 1, false), update("other", 2, false)],
            Some("plugins 10-second and 00-first both set CPUShares"),
        ),
        ("update that may fail", vec![update("other", 1, false), update("other", 2, true)], None),
        (
            "update of the container itself",
            vec![update("own", 1, false)],
            Some("plugin 00-first asked to update container own while it is created"),
        ),
    ]
}

fn shares_of(id: &str, value: u64, ignore_failure: bool) -> ContainerUpdate {
    let cpu = LinuxCpu { shares: Some(OptionalUInt64 { value }), ..Default::default() };
    let resources = LinuxResources { cpu: Some(cpu), ..Default::default() };
    let linux = Some(LinuxContainerUpdate { resources: Some(resources) });
    ContainerUpdate { container_id: id.into(), linux, ignore_failure }
}

/// Rarely something: plugins that set everything are always in conflict.
fn rarely<T: Debug + Clone + 'static>(strategy: impl Strategy<Value = T> + 'static) -> BoxedStrategy<Option<T>> {
    prop::option::weighted(0.12, strategy).boxed()
}

fn few<T: Debug + Clone + 'static>(strategy: impl Strategy<Value = T> + 'static) -> BoxedStrategy<Vec<T>> {
    let some = prop::collection::vec(strategy, 1..3);
    prop_oneof![5 => Just(Vec::new()), 1 => some].boxed()
}

fn name() -> impl Strategy<Value = String> {
    "-{0,1}[abcdef]"
}

fn small() -> impl Strategy<Value = i64> {
    0..9i64
}

fn memory() -> impl Strategy<Value = LinuxMemory> {
    let int = || rarely(small().prop_map(|value| OptionalInt64 { value }));
    let flag = || rarely(any::<bool>().prop_map(|value| api::OptionalBool { value }));
    let unsigned = rarely((0..9u64).prop_map(|value| OptionalUInt64 { value }));
    ((int(), int(), int(), int(), int()), unsigned, flag(), flag()).prop_map(
        |((limit, reservation, swap, kernel, kernel_tcp), swappiness, disable_oom_killer, use_hierarchy)| LinuxMemory {
            limit,
            reservation,
            swap,
            kernel,
            kernel_tcp,
            swappiness,
            disable_oom_killer,
            use_hierarchy,
        },
    )
}

fn cpu() -> impl Strategy<Value = LinuxCpu> {
    let int = || rarely(small().prop_map(|value| OptionalInt64 { value }));
    let unsigned = || rarely((0..9u64).prop_map(|value| OptionalUInt64 { value }));
    let list = || rarely("[0-3]{0,1}").prop_map(Option::unwrap_or_default);
    ((unsigned(), int(), unsigned(), int(), unsigned()), list(), list()).prop_map(
        |((shares, quota, period, realtime_runtime, realtime_period), cpus, mems)| LinuxCpu {
            shares,
            quota,
            period,
            realtime_runtime,
            realtime_period,
            cpus,
            mems,
        },
    )
}

/// Resources without PIDs and devices: of those updates differ on purpose.
pub(crate) fn resources() -> impl Strategy<Value = LinuxResources> {
    let pages = ("[ab]", 0..9u64).prop_map(|(page_size, limit)| HugepageLimit { page_size, limit });
    let class = || rarely("[xy]{0,1}".prop_map(|value| OptionalString { value }));
    let unified = few(("[abc]", "[xy]")).prop_map(|pairs| pairs.into_iter().collect());
    (rarely(memory()), rarely(cpu()), few(pages), class(), class(), unified).prop_map(
        |(memory, cpu, hugepage_limits, blockio_class, rdt_class, unified)| LinuxResources {
            memory,
            cpu,
            hugepage_limits,
            blockio_class,
            rdt_class,
            unified,
            devices: Vec::new(),
            pids: None,
        },
    )
}

fn adjusted_resources() -> impl Strategy<Value = LinuxResources> {
    let rule = any::<bool>().prop_map(|allow| api::LinuxDeviceCgroup { allow, ..Default::default() });
    let pids = small().prop_map(|limit| api::LinuxPids { limit });
    (resources(), few(rule), rarely(pids)).prop_map(|(resources, devices, pids)| LinuxResources {
        devices,
        pids,
        ..resources
    })
}

fn linux() -> impl Strategy<Value = LinuxContainerAdjustment> {
    let rdt = (rarely("[xy]"), rarely(any::<bool>()), any::<bool>()).prop_map(|(id, monitoring, remove)| LinuxRdt {
        clos_id: id.map(|value| OptionalString { value }),
        schemata: None,
        enable_monitoring: monitoring.map(|value| api::OptionalBool { value }),
        remove,
    });
    let namespaces = few(name().prop_map(|n| LinuxNamespace { r#type: n, path: String::new() }));
    let first = (few(name().prop_map(|n| device(&n))), rarely(adjusted_resources()), rarely("[xy]{0,1}"), namespaces);
    let scheduler = (1..4i32).prop_map(|policy| api::LinuxScheduler { policy, ..Default::default() });
    let priority = (0..3i32).prop_map(|class| api::LinuxIoPriority { class, priority: 1 });
    let seccomp = "[xy]".prop_map(|default_action| api::LinuxSeccomp { default_action, ..Default::default() });
    let policy = (0..3i32).prop_map(|mode| api::LinuxMemoryPolicy { mode, ..Default::default() });
    let score = small().prop_map(|value| api::OptionalInt { value });
    let whole = (rarely(score), rarely(priority), rarely(seccomp), rarely(scheduler), rarely(policy));
    let sysctl = few((name(), "[xy]")).prop_map(|pairs| pairs.into_iter().collect());
    let moved = few(name())
        .prop_map(|names| names.into_iter().map(|n| (n, api::LinuxNetDevice::default())).collect::<BTreeMap<_, _>>());
    (first, whole, sysctl, moved, rarely(rdt)).prop_map(
        |((devices, resources, path, namespaces), whole, sysctl, net_devices, rdt)| LinuxContainerAdjustment {
            devices,
            resources,
            cgroups_path: path.unwrap_or_default(),
            oom_score_adj: whole.0,
            io_priority: whole.1,
            seccomp_policy: whole.2,
            namespaces,
            sysctl,
            net_devices,
            scheduler: whole.3,
            rdt,
            memory_policy: whole.4,
        },
    )
}

fn adjustment() -> impl Strategy<Value = ContainerAdjustment> {
    let hook = || few("[xy]".prop_map(|path| Hook { path, ..Default::default() }));
    let hooks = (hook(), hook(), hook()).prop_map(|(prestart, create_container, poststop)| Hooks {
        prestart,
        create_container,
        poststop,
        ..Default::default()
    });
    let env = few((name(), "[xy]").prop_map(|(key, value)| KeyValue { key, value }));
    let limits = few("[ab]".prop_map(|kind| PosixRlimit { r#type: kind, hard: 2, soft: 1 }));
    let cdi = few("[ab]".prop_map(|name| api::CdiDevice { name }));
    let annotations = few((name(), "[xy]")).prop_map(|pairs| pairs.into_iter().collect());
    let mounts = few(name().prop_map(|n| mount(&n)));
    (annotations, mounts, env, rarely(hooks), prop::option::of(linux()), limits, cdi, few("[xy]{0,1}")).prop_map(
        |(annotations, mounts, env, hooks, linux, rlimits, cdi_devices, args)| ContainerAdjustment {
            annotations,
            mounts,
            env,
            hooks,
            linux,
            rlimits,
            cdi_devices,
            args,
        },
    )
}

fn update(ids: &'static [&'static str]) -> impl Strategy<Value = ContainerUpdate> {
    let linux =
        prop::option::of(prop::option::of(resources()).prop_map(|resources| LinuxContainerUpdate { resources }));
    (prop::sample::select(ids), linux, any::<bool>()).prop_map(|(id, linux, ignore_failure)| ContainerUpdate {
        container_id: id.to_owned(),
        linux,
        ignore_failure,
    })
}

/// What a plugin may answer to a creation.
pub(crate) fn answer() -> impl Strategy<Value = CreateContainerResponse> {
    let updates = few(update(&["x", "y"]));
    (prop::option::of(adjustment()), updates).prop_map(|(adjust, update)| CreateContainerResponse {
        adjust,
        update,
        evict: Vec::new(),
    })
}

/// What a plugin may answer to an update.
pub(crate) fn updates() -> impl Strategy<Value = UpdateContainerResponse> {
    prop::collection::vec(update(&["own", "x", "y"]), 0..3)
        .prop_map(|update| UpdateContainerResponse { update, evict: Vec::new() })
}
