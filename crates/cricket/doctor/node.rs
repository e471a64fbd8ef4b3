//! What the node has to offer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use cricket_cgroup::{Hierarchies, Kind, Version};
use cricket_process::KernelFeatures;
use cricket_runtime::handlers::CgroupDriver;

use super::Finding;
use crate::config::Config;
use crate::{kernel, serve};

/// Controllers without which limits and statistics are missing.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// The helpers of the daemon.
const HELPERS: [&str; 3] = ["cricket-monitor", "cricket-launch", "cricket-exec"];

/// The kernel: what is needed, and what is used where it is there.
pub(super) fn kernel() -> Vec<Finding> {
    let features = KernelFeatures::probe();
    let mut findings = vec![release(&features.release)];
    findings.extend(features.missing().into_iter().map(|name| Finding::Wrong(format!("kernel: {name} is missing"))));
    let overlay = fs::read_to_string("/proc/filesystems").is_ok_and(|t| t.lines().any(|l| l.ends_with("\toverlay")));
    if !overlay {
        findings.push(Finding::Wrong("kernel: no overlay file system (modprobe overlay)".to_owned()));
    }
    let optional = [
        ("new mount API", features.mount_api),
        ("mount attributes", features.mount_setattr),
        ("exit status kept by pidfds", features.pidfd_exit_info),
        ("executable memory files", features.executable_memfd),
        ("seccomp", features.seccomp),
        ("user namespaces", features.user_namespaces),
        ("AppArmor", features.apparmor),
        ("SELinux", features.selinux),
    ];
    let names = |has: bool| optional.iter().filter(|(_, h)| *h == has).map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    findings.push(Finding::Good(format!("kernel has: {}", names(true))));
    if optional.iter().any(|(_, has)| !has) {
        findings.push(Finding::Note(format!("kernel has not: {}", names(false))));
    }
    findings
}

/// Whether the kernel is new enough.
pub(super) fn release(release: &str) -> Finding {
    match kernel::check(release) {
        Ok(()) => Finding::Good(format!("kernel {release}")),
        Err(e) => Finding::Wrong(e.to_string()),
    }
}

/// The control groups, and who makes them.
pub(super) fn cgroups(driver: CgroupDriver) -> Vec<Finding> {
    let found = match Hierarchies::detect() {
        Ok(found) => found,
        Err(e) => return vec![Finding::Wrong(format!("control groups: {e}"))],
    };
    let unified = found.all().iter().find(|h| h.kind == Kind::V2);
    let has = |name: &str| match found.version() {
        Version::V1 => found.all().iter().any(|h| h.has(name)),
        Version::V2 => unified.is_some_and(|h| {
            let list = fs::read_to_string(h.mount.join("cgroup.controllers")).unwrap_or_default();
            list.split_whitespace().any(|c| c == name)
        }),
    };
    let layout = match (found.version(), unified) {
        (Version::V2, _) => "v2",
        (Version::V1, Some(_)) => "v1, with a v2 hierarchy beside",
        (Version::V1, None) => "v1",
    };
    let (driver, fits) = match driver {
        CgroupDriver::Cgroupfs => ("cgroupfs", true),
        CgroupDriver::Systemd => ("systemd", found.version() == Version::V2),
    };
    let mut findings = vec![match fits {
        true => Finding::Good(format!("control groups: {layout}, driver {driver}")),
        false => Finding::Wrong(format!("control groups: {layout}, but the driver {driver} needs v2")),
    }];
    let missing = CONTROLLERS.into_iter().filter(|c| !has(c));
    findings.extend(missing.map(|c| Finding::Wrong(format!("control groups: the controller {c} is missing"))));
    findings
}

/// The daemon's own helpers.
pub(super) fn helpers(config: &Config) -> Vec<Finding> {
    let dir = serve::helpers_dir(config);
    let executable = |name: &&str| {
        fs::metadata(dir.join(name)).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let missing: Vec<_> = HELPERS.into_iter().filter(|name| !executable(name)).collect();
    match missing.is_empty() {
        true => vec![Finding::Good(format!("helpers: in {}", dir.display()))],
        false => vec![Finding::Wrong(format!("helpers: {} not in {}", missing.join(", "), dir.display()))],
    }
}

/// The handlers: the default has to work, the others are told about.
pub(super) fn handlers(config: &Config) -> Vec<Finding> {
    let handlers = match serve::handlers(config) {
        Ok(handlers) => handlers,
        Err(e) => return vec![Finding::Wrong(e.to_string())],
    };
    let mut findings = Vec::new();
    for handler in handlers.iter() {
        let name = handler.name();
        let default = name == handlers.default_name();
        findings.push(match handler.check() {
            Ok(()) if default => Finding::Good(format!("runtime handler {name:?}: ready, the default")),
            Ok(()) => Finding::Good(format!("runtime handler {name:?}: ready")),
            Err(e) if default => Finding::Wrong(e.to_string()),
            Err(e) => Finding::Note(e.to_string()),
        });
    }
    findings
        .extend(handlers.refused().map(|(name, reason)| Finding::Note(format!("runtime handler {name:?}: {reason}"))));
    findings
}

/// Whether a kubelet's cAdvisor finds containers and their labels.
pub(super) fn cadvisor(config: &Config) -> Finding {
    let gate = "the kubelet's feature gate PodAndContainerStatsFromCRI";
    let Some(path) = &config.own.cadvisor_socket else {
        return Finding::Note(format!(
            "kubelet's metrics: /metrics/cadvisor has containers' labels and pods' networks with {gate}, or with cadvisor_socket set"
        ));
    };
    let shown = path.display();
    match (listener(path), listener(&config.own.admin_address)) {
        (Some(there), Some(daemon)) if there == daemon => {
            Finding::Good(format!("kubelet's metrics: cAdvisor is answered at {shown}"))
        }
        (Some(there), _) => Finding::Wrong(format!(
            "kubelet's metrics: process {there} listens at {shown}, not cricket: labels and networks need {gate}"
        )),
        (None, Some(_)) => {
            Finding::Wrong(format!("kubelet's metrics: nobody listens at {shown}, see the daemon's log"))
        }
        (None, None) => Finding::Note(format!("kubelet's metrics: no daemon runs to answer cAdvisor at {shown}")),
    }
}

/// The process that listens at a socket.
fn listener(path: &Path) -> Option<i32> {
    let stream = UnixStream::connect(path).ok()?;
    rustix::net::sockopt::socket_peercred(&stream).ok().map(|peer| peer.pid.as_raw_nonzero().get())
}

/// What of the configuration does not count.
pub(super) fn settings(config: &Config) -> Vec<Finding> {
    match config.unsupported.len() {
        0 => Vec::new(),
        n => vec![Finding::Note(format!("configuration: {n} keys are set and not used; `cricket config` lists them"))],
    }
}
