//! Sysctls of a sandbox: only those that a namespace of the pod's own holds. The name becomes a path below
//! `/proc/sys`, so its characters are checked as if it came from the pod's author, which it does.

use std::collections::BTreeMap;

use cricket_cri_api::v1;

use crate::error::{Error, Result, shown};
use crate::namespaces::sandbox_modes;
use v1::NamespaceMode;

const FIELD: &str = "linux.sysctls";
/// More than all namespaced sysctls of a kernel.
const MAX: usize = 1024;

/// What the IPC namespace holds besides `fs.mqueue.*` (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// The sysctls of a sandbox, sorted by name, dotted: with a network of its own, low ports are open to all users and
/// so is ping, as in containerd 2 (but not where the pod has a user namespace, which need not have all those groups); the
/// pod's own values override those.
///
/// # Errors
/// A name or value that is malformed, or a name that is not private to this pod.
pub fn sandbox_sysctls(config: &v1::PodSandboxConfig) -> Result<Vec<(String, String)>> {
    let modes = sandbox_modes(config)?;
    let own_network = modes.network != NamespaceMode::Node;
    let own_ipc = modes.ipc != NamespaceMode::Node;
    let mut out = BTreeMap::new();
    if own_network {
        out.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        if modes.user.is_none() {
            out.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
    }
    let Some(linux) = &config.linux else { return Ok(out.into_iter().collect()) };
    if linux.sysctls.len() > MAX {
        return Err(Error::TooLarge { field: FIELD.into(), actual: linux.sysctls.len(), limit: MAX });
    }
    for (name, value) in &linux.sysctls {
        let refuse = |reason: &str| Err(Error::invalid(FIELD, format!("{} {reason}", shown(name))));
        let Some(dotted) = normalize(name) else { return refuse("is not a sysctl's name") };
        if value.is_empty() || value.len() > 4096 || value.chars().any(|c| c.is_control() && c != '\t') {
            return refuse("has a malformed value");
        }
        if dotted.starts_with("net.") {
            if !own_network {
                return refuse("belongs to the host's network namespace, which this pod is in");
            }
        } else if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            if !own_ipc {
                return refuse("belongs to the host's IPC namespace, which this pod is in");
            }
        } else {
            return refuse("is not private to a pod");
        }
        if let Some(known) = out.insert(dotted, value.clone())
            && linux.sysctls.len() > 1
            && known != *value
            && linux.sysctls.keys().filter(|key| normalize(key) == normalize(name)).count() > 1
        {
            return refuse("is given twice");
        }
    }
    Ok(out.into_iter().collect())
}

/// The dotted form of `net.ipv4.x` or `net/ipv4/x`. Whichever separator comes first separates; the other one is then
/// part of a name (an interface `eth0.1` is `net/ipv4/conf/eth0.1/forwarding`), which no dotted form can say and
/// which is refused, as is everything that could climb or end a line.
fn normalize(name: &str) -> Option<String> {
    let separator = if name.find('/').unwrap_or(usize::MAX) < name.find('.').unwrap_or(usize::MAX) { '/' } else { '.' };
    let other = if separator == '/' { '.' } else { '/' };
    let valid =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let parts: Vec<&str> = name.split(separator).collect();
    let fine = name.len() <= 256 && parts.len() >= 2 && !name.contains(other) && parts.iter().all(|part| valid(part));
    fine.then(|| parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysctls(network: NamespaceMode, ipc: NamespaceMode, given: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
        sandbox_sysctls(&v1::PodSandboxConfig {
            linux: Some(v1::LinuxPodSandboxConfig {
                sysctls: given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(v1::NamespaceOption {
                        network: network as i32,
                        ipc: ipc as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    #[test]
    fn defaults_belong_to_private_networks() {
        let got = sysctls(NamespaceMode::Pod, NamespaceMode::Pod, &[("net/ipv4/ping_group_range", "1 0")]).unwrap();
        assert_eq!(
            got,
            [
                ("net.ipv4.ip_unprivileged_port_start".into(), "0".into()),
                ("net.ipv4.ping_group_range".into(), "1 0".into()),
            ]
        );
        assert!(sysctls(NamespaceMode::Node, NamespaceMode::Pod, &[]).unwrap().is_empty());
        assert_eq!(sandbox_sysctls(&Default::default()).unwrap().len(), 2);
    }

    #[test]
    fn only_what_is_private_to_the_pod() {
        use NamespaceMode::{Node, Pod};
        for (network, ipc, name, fine) in [
            (Pod, Pod, "net.core.somaxconn", true),
            (Node, Pod, "net.core.somaxconn", false),
            (Node, Pod, "kernel.shmmax", true),
            (Pod, Node, "kernel.shmmax", false),
            (Pod, Node, "fs.mqueue.msg_max", false),
            (Pod, Pod, "fs.mqueue.msg_max", true),
            (Pod, Pod, "kernel.core_pattern", false),
            (Pod, Pod, "vm.swappiness", false),
        ] {
            assert_eq!(sysctls(network, ipc, &[(name, "1")]).is_ok(), fine, "{name}");
        }
    }

    #[test]
    fn tricks_are_refused() {
        for (name, value) in [
            ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x\n"),
            ("kernel.shm_rmid_forced+kernel.core_pattern", "1"),
            ("net.ipv4.x\nkernel.core_pattern", "1"),
            ("net/../kernel/core_pattern", "1"),
            ("net.ipv4/../../kernel/core_pattern", "1"),
            ("net..ipv4", "1"),
            ("net./ipv4", "1"),
            ("/net/ipv4/x", "1"),
            ("net", "1"),
            ("", "1"),
            ("net.ipv4.x", ""),
            ("net.ipv4.x", "1\0"),
        ] {
            assert!(sysctls(NamespaceMode::Pod, NamespaceMode::Pod, &[(name, value)]).is_err(), "{name:?}={value:?}");
        }
        let twice = [("net.ipv4.x", "1"), ("net/ipv4/x", "2")];
        assert!(sysctls(NamespaceMode::Pod, NamespaceMode::Pod, &twice).is_err());
    }
}
