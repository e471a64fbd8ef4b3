//! How plugins see what the runtime has: specifications and CRI resources in the protocol's words.

use std::path::Path;

use cricket_cri_api::v1;
use cricket_oci::oci_spec::runtime::{self as oci, Spec};

use crate::api;

/// What a specification says of a container. The other fields (IDs, names, state) are `base`'s.
pub fn container(spec: &Spec, base: api::Container) -> api::Container {
    let process = spec.process().clone().unwrap_or_default();
    let user = process.user();
    let mounts = spec.mounts().iter().flatten().map(|mount| api::Mount {
        destination: text(mount.destination()),
        r#type: mount.typ().clone().unwrap_or_default(),
        source: mount.source().as_deref().map(text).unwrap_or_default(),
        options: mount.options().clone().unwrap_or_default(),
    });
    let rlimits = process.rlimits().iter().flatten().map(|limit| api::PosixRlimit {
        r#type: limit.typ().to_string(),
        hard: limit.hard(),
        soft: limit.soft(),
    });
    api::Container {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        mounts: mounts.collect(),
        hooks: spec.hooks().as_ref().map(hooks),
        linux: spec.linux().as_ref().map(|linux| self::linux(linux, &process, base.linux.clone().unwrap_or_default())),
        rlimits: rlimits.collect(),
        user: Some(api::User {
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
        }),
        ..base
    }
}

/// CRI resources, as containerd tells them: what is zero is not set.
pub fn resources(asked: &v1::LinuxContainerResources) -> api::LinuxResources {
    let unsigned =
        |value: i64| u64::try_from(value).ok().filter(|v| *v != 0).map(|value| api::OptionalUInt64 { value });
    let signed = |value: i64| (value != 0).then_some(api::OptionalInt64 { value });
    api::LinuxResources {
        memory: Some(api::LinuxMemory {
            limit: signed(asked.memory_limit_in_bytes),
            swap: signed(asked.memory_swap_limit_in_bytes),
            ..api::LinuxMemory::default()
        }),
        cpu: Some(api::LinuxCpu {
            shares: unsigned(asked.cpu_shares),
            quota: signed(asked.cpu_quota),
            period: unsigned(asked.cpu_period),
            cpus: asked.cpuset_cpus.clone(),
            mems: asked.cpuset_mems.clone(),
            ..api::LinuxCpu::default()
        }),
        hugepage_limits: asked
            .hugepage_limits
            .iter()
            .map(|limit| api::HugepageLimit { page_size: limit.page_size.clone(), limit: limit.limit })
            .collect(),
        unified: asked.unified.clone().into_iter().collect(),
        ..api::LinuxResources::default()
    }
}

/// The part of plugins' resources that CRI has as well; what is not set stays zero.
pub fn cri_resources(asked: &api::LinuxResources) -> v1::LinuxContainerResources {
    let (memory, cpu) = (asked.memory.unwrap_or_default(), asked.cpu.clone().unwrap_or_default());
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    v1::LinuxContainerResources {
        cpu_period: cpu.period.map_or(0, |v| signed(v.value)),
        cpu_quota: cpu.quota.map_or(0, |v| v.value),
        cpu_shares: cpu.shares.map_or(0, |v| signed(v.value)),
        memory_limit_in_bytes: memory.limit.map_or(0, |v| v.value),
        memory_swap_limit_in_bytes: memory.swap.map_or(0, |v| v.value),
        oom_score_adj: 0,
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        hugepage_limits: asked
            .hugepage_limits
            .iter()
            .map(|limit| v1::HugepageLimit { page_size: limit.page_size.clone(), limit: limit.limit })
            .collect(),
        unified: asked.unified.clone().into_iter().collect(),
    }
}

fn hooks(spec: &oci::Hooks) -> api::Hooks {
    let all = |hooks: &Option<Vec<oci::Hook>>| {
        let convert = |hook: &oci::Hook| api::Hook {
            path: text(hook.path()),
            args: hook.args().clone().unwrap_or_default(),
            env: hook.env().clone().unwrap_or_default(),
            timeout: hook.timeout().map(|value| api::OptionalInt { value }),
        };
        hooks.iter().flatten().map(convert).collect()
    };
    api::Hooks {
        prestart: all(spec.prestart()),
        create_runtime: all(spec.create_runtime()),
        create_container: all(spec.create_container()),
        start_container: all(spec.start_container()),
        poststart: all(spec.poststart()),
        poststop: all(spec.poststop()),
    }
}

fn linux(spec: &oci::Linux, process: &oci::Process, base: api::LinuxContainer) -> api::LinuxContainer {
    let namespaces = spec.namespaces().iter().flatten().map(|namespace| api::LinuxNamespace {
        r#type: spelled(&namespace.typ()),
        path: namespace.path().as_deref().map(text).unwrap_or_default(),
    });
    let devices = spec.devices().iter().flatten().map(|device| api::LinuxDevice {
        path: text(device.path()),
        r#type: device.typ().as_str().to_owned(),
        major: device.major(),
        minor: device.minor(),
        file_mode: device.file_mode().map(|value| api::OptionalFileMode { value }),
        uid: device.uid().map(|value| api::OptionalUInt32 { value }),
        gid: device.gid().map(|value| api::OptionalUInt32 { value }),
    });
    let io_priority = process.io_priority().map(|priority| api::LinuxIoPriority {
        class: api::IoPrioClass::from_str_name(&spelled(&priority.class())).unwrap_or_default().into(),
        priority: i32::try_from(priority.priority()).unwrap_or_default(),
    });
    let net_devices =
        spec.net_devices().iter().flatten().map(|(name, device)| {
            (name.clone(), api::LinuxNetDevice { name: device.name().clone().unwrap_or_default() })
        });
    let rdt = spec.intel_rdt().as_ref().map(|rdt| api::LinuxRdt {
        clos_id: rdt.clos_id().clone().map(|value| api::OptionalString { value }),
        schemata: rdt.schemata().clone().map(|value| api::OptionalRepeatedString { value }),
        enable_monitoring: rdt.enable_monitoring().map(|value| api::OptionalBool { value }),
        remove: false,
    });
    api::LinuxContainer {
        namespaces: namespaces.collect(),
        devices: devices.collect(),
        resources: spec.resources().as_ref().map(limits),
        oom_score_adj: process.oom_score_adj().map(|score| api::OptionalInt { value: score.into() }),
        cgroups_path: spec.cgroups_path().as_deref().map(text).unwrap_or_default(),
        io_priority,
        seccomp_policy: spec.seccomp().as_ref().map(seccomp),
        sysctl: spec.sysctl().clone().unwrap_or_default().into_iter().collect(),
        net_devices: net_devices.collect(),
        rdt,
        ..base
    }
}

fn limits(spec: &oci::LinuxResources) -> api::LinuxResources {
    let signed = |value: Option<i64>| value.map(|value| api::OptionalInt64 { value });
    let unsigned = |value: Option<u64>| value.map(|value| api::OptionalUInt64 { value });
    let flag = |value: Option<bool>| value.map(|value| api::OptionalBool { value });
    api::LinuxResources {
        memory: spec.memory().as_ref().map(|memory| api::LinuxMemory {
            limit: signed(memory.limit()),
            reservation: signed(memory.reservation()),
            swap: signed(memory.swap()),
            kernel: signed(memory.kernel()),
            kernel_tcp: signed(memory.kernel_tcp()),
            swappiness: unsigned(memory.swappiness()),
            disable_oom_killer: flag(memory.disable_oom_killer()),
            use_hierarchy: flag(memory.use_hierarchy()),
        }),
        cpu: spec.cpu().as_ref().map(|cpu| api::LinuxCpu {
            shares: unsigned(cpu.shares()),
            quota: signed(cpu.quota()),
            period: unsigned(cpu.period()),
            realtime_runtime: signed(cpu.realtime_runtime()),
            realtime_period: unsigned(cpu.realtime_period()),
            cpus: cpu.cpus().clone().unwrap_or_default(),
            mems: cpu.mems().clone().unwrap_or_default(),
        }),
        hugepage_limits: spec
            .hugepage_limits()
            .iter()
            .flatten()
            .map(|limit| api::HugepageLimit {
                page_size: limit.page_size().clone(),
                limit: u64::try_from(limit.limit()).unwrap_or(u64::MAX),
            })
            .collect(),
        unified: spec.unified().clone().unwrap_or_default().into_iter().collect(),
        devices: spec
            .devices()
            .iter()
            .flatten()
            .map(|rule| api::LinuxDeviceCgroup {
                allow: rule.allow(),
                r#type: rule.typ().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
                major: signed(rule.major()),
                minor: signed(rule.minor()),
                access: rule.access().clone().unwrap_or_default(),
            })
            .collect(),
        pids: spec.pids().as_ref().map(|pids| api::LinuxPids { limit: pids.limit() }),
        ..api::LinuxResources::default()
    }
}

fn seccomp(spec: &oci::LinuxSeccomp) -> api::LinuxSeccomp {
    let errno = |value: Option<u32>| value.map(|value| api::OptionalUInt32 { value });
    let arg = |arg: &oci::LinuxSeccompArg| api::LinuxSeccompArg {
        index: u32::try_from(arg.index()).unwrap_or(u32::MAX),
        value: arg.value(),
        value_two: arg.value_two().unwrap_or_default(),
        op: spelled(&arg.op()),
    };
    let syscall = |call: &oci::LinuxSyscall| api::LinuxSyscall {
        names: call.names().clone(),
        action: spelled(&call.action()),
        errno_ret: errno(call.errno_ret()),
        args: call.args().iter().flatten().map(arg).collect(),
    };
    api::LinuxSeccomp {
        default_action: spelled(&spec.default_action()),
        default_errno: errno(spec.default_errno_ret()),
        architectures: spec.architectures().iter().flatten().map(spelled).collect(),
        flags: spec.flags().iter().flatten().map(spelled).collect(),
        listener_path: spec.listener_path().as_deref().map(text).unwrap_or_default(),
        listener_metadata: spec.listener_metadata().clone().unwrap_or_default(),
        syscalls: spec.syscalls().iter().flatten().map(syscall).collect(),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// As the specification's JSON spells it.
fn spelled<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
