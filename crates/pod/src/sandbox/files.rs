//! The files that a sandbox gives its containers: resolv.conf, hostname, hosts, and the shared memory.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cricket_cri_api::v1;
use cricket_oci::SandboxFiles;

use super::{host_ipc, host_network, root_of};
use crate::error::{Error, Result};

/// Where the files of the pod in `pod_dir` are.
pub(crate) fn sandbox_files(pod_dir: &Path, config: &v1::PodSandboxConfig) -> SandboxFiles {
    let etc = pod_dir.join("etc");
    let shm = if host_ipc(config) { PathBuf::from("/dev/shm") } else { shm(pod_dir) };
    SandboxFiles {
        resolv_conf: Some(etc.join("resolv.conf")),
        hostname: Some(etc.join("hostname")),
        hosts: Some(etc.join("hosts")),
        shm: Some(shm),
    }
}

/// Where the pod's shared memory is mounted.
pub(super) fn shm(pod_dir: &Path) -> PathBuf {
    pod_dir.join("shm")
}

/// The host name of the pod: its own, or the host's on the host's network.
pub(super) fn hostname(config: &v1::PodSandboxConfig, host: &str) -> String {
    match (config.hostname.is_empty(), host_network(config)) {
        (false, _) => config.hostname.clone(),
        (true, true) => host.to_owned(),
        (true, false) => config.metadata.as_ref().map(|m| m.name.chars().take(63).collect()).unwrap_or_default(),
    }
}

/// Writes them and mounts the shared memory; all of it belongs to the root of the pod's user namespace.
pub(super) fn write(pod_dir: &Path, config: &v1::PodSandboxConfig, host: &str) -> Result<()> {
    let owner = root_of(config)?;
    let etc = pod_dir.join("etc");
    let failed = |path: &Path, e: std::io::Error| Error::internal(format_args!("write {}", path.display()), &e);
    // Containers see the files through mounts; other users of the host need no way to them.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&etc).map_err(|e| failed(&etc, e))?;
    let put = |name: &str, text: String| {
        let path = etc.join(name);
        fs::write(&path, text).map_err(|e| failed(&path, e))?;
        std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).map_err(|e| failed(&path, e))
    };
    put("hostname", format!("{}\n", hostname(config, host)))?;
    put("hosts", fs::read_to_string("/etc/hosts").unwrap_or_else(|_| "127.0.0.1 localhost\n".into()))?;
    put("resolv.conf", resolv_conf(config, || fs::read_to_string("/etc/resolv.conf").unwrap_or_default()))?;
    if !host_ipc(config) {
        let shm = shm(pod_dir);
        fs::create_dir_all(&shm).map_err(|e| failed(&shm, e))?;
        cricket_process::mounts::shm(&shm, owner)
            .map_err(|e| Error::internal(format_args!("mount {}", shm.display()), &e))?;
    }
    Ok(())
}

/// The resolver's configuration: what the pod asks for; without any, the host's.
fn resolv_conf(config: &v1::PodSandboxConfig, host: impl Fn() -> String) -> String {
    let Some(dns) = &config.dns_config else { return host() };
    if dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty() {
        return host();
    }
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_dns_or_the_hosts() {
        let mut config = v1::PodSandboxConfig::default();
        assert_eq!(resolv_conf(&config, || "host\n".into()), "host\n");
        config.dns_config = Some(v1::DnsConfig {
            servers: vec!["10.0.0.10".into()],
            searches: vec!["a.local".into(), "b.local".into()],
            options: vec!["ndots:5".into()],
        });
        let text = resolv_conf(&config, String::new);
        assert_eq!(text, "search a.local b.local\nnameserver 10.0.0.10\noptions ndots:5\n");
    }

    #[test]
    fn the_pods_name_stands_in_for_a_missing_hostname() {
        let metadata = v1::PodSandboxMetadata { name: "web".into(), ..Default::default() };
        let config = v1::PodSandboxConfig { metadata: Some(metadata), ..Default::default() };
        assert_eq!(hostname(&config, "node"), "web");
    }
}
