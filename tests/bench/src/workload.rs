//! The pods that are measured: what a kubelet would send for a small one.

use crate::metric::Net;
use cricket_cri_api::v1;
use cricket_testkit::cri;
use cricket_testkit::daemon::Daemon;
use std::path::Path;
use v1::security_profile::ProfileType;

/// Its image, by a name that leads to the registry of the run.
pub(crate) const IMAGE: &str = "docker.io/library/busybox:latest";

/// What runs in it; told from a pod's other processes by this command line.
pub(crate) const COMMAND: [&str; 2] = ["sleep", "86399"];

/// The paths that kubelets hide from containers (Kubernetes 1.36, `pkg/securitycontext`).
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// How a pod's container is confined by seccomp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seccomp {
    /// What a pod gets that says nothing.
    Unconfined,
    /// The runtime's own profile.
    RuntimeDefault,
}

/// A sandbox's configuration, with a directory for its logs.
pub(crate) fn sandbox(daemon: &Daemon, net: Net) -> v1::PodSandboxConfig {
    let mut config = daemon.pod("bench");
    config.dns_config = Some(v1::DnsConfig {
        servers: vec!["10.96.0.10".into()],
        searches: vec!["default.svc.cluster.local".into(), "svc.cluster.local".into()],
        options: vec!["ndots:5".into()],
    });
    match net {
        Net::Bridge => config,
        // On the host's network there is no hostname to set.
        Net::Host => cri::host_network(v1::PodSandboxConfig { hostname: String::new(), ..config }),
    }
}

/// Its container's configuration; `files` is where the host has [`prepare`]d files.
pub(crate) fn container(files: &Path, net: Net, seccomp: Seccomp) -> v1::ContainerConfig {
    let mut config = cri::container("main", IMAGE, &COMMAND);
    config.envs = ["KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443"]
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(key, value)| v1::KeyValue { key: key.into(), value: value.into() })
        .collect();
    config.mounts = FILES.iter().map(|&(name, path)| mount(&files.join(name), path)).collect();
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 102,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 999,
        ..Default::default()
    });
    let context = linux.security_context.get_or_insert_default();
    context.masked_paths = MASKED.map(str::to_owned).into();
    context.readonly_paths = READ_ONLY.map(str::to_owned).into();
    let profile = match seccomp {
        Seccomp::Unconfined => ProfileType::Unconfined,
        Seccomp::RuntimeDefault => ProfileType::RuntimeDefault,
    };
    context.seccomp = Some(v1::SecurityProfile { profile_type: profile.into(), ..Default::default() });
    if net == Net::Host {
        context.namespace_options.get_or_insert_default().set_network(v1::NamespaceMode::Node);
    }
    config
}

/// Files that kubelets bind into every container, and where.
const FILES: [(&str, &str); 2] = [("hosts", "/etc/hosts"), ("termination-log", "/dev/termination-log")];

/// Makes the files that containers have mounted.
pub(crate) fn prepare(files: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(files)?;
    FILES.iter().try_for_each(|(name, _)| std::fs::write(files.join(name), "127.0.0.1 localhost\n"))
}

fn mount(host: &Path, container: &str) -> v1::Mount {
    v1::Mount { host_path: host.display().to_string(), container_path: container.into(), ..Default::default() }
}
