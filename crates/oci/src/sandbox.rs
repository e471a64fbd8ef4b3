//! The specification of a pod's first container, for runtimes that build the pod out of one.

use std::path::Path;

use cricket_cri_api::v1;
use cricket_model::SandboxId;
use oci_spec::runtime::{
    Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, LinuxResources, Mount, Process, Root, Spec, User,
};
use v1::NamespaceMode;

use crate::annotations;
use crate::error::Result;
use crate::input::{HostFacts, NamespacePaths, SpecOptions};
use crate::limits;
use crate::mounts::default_mounts;
use crate::namespaces::sandbox_modes;
use crate::spec::OCI_VERSION;

/// The pod's containers go before it.
const SCORE: i64 = -998;
/// A user and group that nothing belongs to.
const NOBODY: u32 = 65534;

/// What the specification is made of.
#[derive(Debug)]
pub struct SandboxInput<'a> {
    /// The pod's ID, which is the container's.
    pub id: &'a SandboxId,
    /// The pod.
    pub sandbox: &'a v1::PodSandboxConfig,
    /// Its root file system, which is read-only.
    pub rootfs: &'a Path,
    /// What runs in it.
    pub args: &'a [&'a str],
    /// The pod's host name.
    pub hostname: &'a str,
    /// The pod's shared memory; `None`: a private one.
    pub shm: Option<&'a Path>,
    /// The pod's namespaces; one that is not given is the container's own, or the host's where the pod shares that.
    pub namespaces: NamespacePaths,
    /// Absolute path of its control group.
    pub cgroups_path: &'a str,
    /// The host.
    pub host: &'a HostFacts,
    /// The handler.
    pub handler: &'a SpecOptions,
}

/// The specification of a pod's first container.
///
/// # Errors
/// When the pod's configuration is malformed.
pub fn sandbox_spec(input: &SandboxInput<'_>) -> Result<Spec> {
    let mut root = Root::default();
    root.set_path(input.rootfs.to_owned()).set_readonly(Some(true));
    let mut user = User::default();
    user.set_uid(NOBODY).set_gid(NOBODY).set_additional_gids(None).set_username(None);
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(user)
        .set_args(Some(input.args.iter().map(|arg| (*arg).to_owned()).collect()))
        .set_env(Some(vec!["PATH=/".to_owned()]))
        .set_cwd("/".into())
        .set_capabilities(Some(no_capabilities()))
        .set_rlimits(Some(limits::rlimits(input.host, &[])))
        .set_no_new_privileges(Some(true))
        .set_apparmor_profile(None)
        .set_selinux_label(None)
        .set_oom_score_adj(Some(limits::oom_score_adj(SCORE, input.host)?));
    let mut linux = Linux::default();
    linux
        .set_uid_mappings(None)
        .set_gid_mappings(None)
        .set_sysctl(None)
        .set_resources(Some(LinuxResources::default()))
        .set_cgroups_path(Some(input.cgroups_path.into()))
        .set_namespaces(Some(namespaces(input)?))
        .set_devices(None)
        .set_seccomp(None)
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_mount_label(None);
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounts(input)))
        .set_process(Some(process))
        .set_hostname(has_names(input)?.then(|| input.hostname.to_owned()))
        .set_domainname(None)
        .set_hooks(None)
        .set_annotations(Some(annotations::of_sandbox(input)))
        .set_linux(Some(linux));
    Ok(spec)
}

fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    none.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    none
}

/// The UTS namespace goes with the network.
fn has_names(input: &SandboxInput<'_>) -> Result<bool> {
    Ok(sandbox_modes(input.sandbox)?.network != NamespaceMode::Node)
}

fn mounts(input: &SandboxInput<'_>) -> Vec<Mount> {
    // Of the usual ones those that a file system of one file has directories for.
    let kept = ["/proc", "/dev", "/sys"].map(Path::new);
    let mut mounts = default_mounts(false);
    mounts.retain(|mount| kept.contains(&mount.destination().as_path()));
    if let Some(shm) = input.shm {
        let mut mount = Mount::default();
        let options = ["rbind", "ro"].map(str::to_owned).to_vec();
        mount.set_destination("/dev/shm".into()).set_typ(Some("bind".into())).set_source(Some(shm.to_owned()));
        mount.set_options(Some(options));
        mounts.push(mount);
    }
    mounts
}

fn namespaces(input: &SandboxInput<'_>) -> Result<Vec<LinuxNamespace>> {
    let modes = sandbox_modes(input.sandbox)?;
    let paths = &input.namespaces;
    let named = has_names(input)?;
    let wanted = [
        (LinuxNamespaceType::Mount, true, None),
        (LinuxNamespaceType::Network, named, paths.network.clone()),
        (LinuxNamespaceType::Uts, named, paths.uts.clone()),
        (LinuxNamespaceType::Ipc, modes.ipc != NamespaceMode::Node, paths.ipc.clone()),
        (LinuxNamespaceType::Pid, modes.pid != NamespaceMode::Node, paths.pid.clone()),
    ];
    let namespace = |(kind, _, path)| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(path);
        namespace
    };
    Ok(wanted.into_iter().filter(|(_, own, _)| *own).map(namespace).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_first_container() {
        let sandbox = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".into(),
                namespace: "shop".into(),
                ..Default::default()
            }),
            annotations: [("io.kata.x".to_owned(), "y".to_owned()), ("other".to_owned(), "z".to_owned())].into(),
            linux: Some(v1::LinuxPodSandboxConfig {
                resources: Some(v1::LinuxContainerResources {
                    cpu_period: 100_000,
                    cpu_quota: 50_000,
                    cpu_shares: 512,
                    memory_limit_in_bytes: 64 << 20,
                    ..Default::default()
                }),
                overhead: Some(v1::LinuxContainerResources {
                    cpu_quota: 25_000,
                    memory_limit_in_bytes: 32 << 20,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let id = SandboxId::generate();
        let host = HostFacts { may_lower_oom_score: true, ..Default::default() };
        let handler = SpecOptions { pod_annotations: vec!["io.kata.*".into()], ..Default::default() };
        let spec = sandbox_spec(&SandboxInput {
            id: &id,
            sandbox: &sandbox,
            rootfs: Path::new("/root-of-one-file"),
            args: &["init"],
            hostname: "web",
            shm: None,
            namespaces: NamespacePaths { network: Some("/run/netns/x".into()), ..Default::default() },
            cgroups_path: "/pod/x",
            host: &host,
            handler: &handler,
        })
        .expect("valid");
        let annotations = spec.annotations().clone().expect("annotations");
        for (key, want) in [
            ("io.kubernetes.cri.container-type", "sandbox"),
            ("io.kubernetes.cri-o.ContainerType", "sandbox"),
            ("io.kubernetes.cri.sandbox-id", id.as_str()),
            ("io.kubernetes.cri.sandbox-name", "web"),
            ("io.kubernetes.cri.sandbox-namespace", "shop"),
            ("io.kubernetes.cri.sandbox-cpu-period", "100000"),
            ("io.kubernetes.cri.sandbox-cpu-quota", "50000"),
            ("io.kubernetes.cri.sandbox-cpu-shares", "512"),
            ("io.kubernetes.cri.sandbox-memory", "67108864"),
            ("io.kata.x", "y"),
        ] {
            assert_eq!(annotations.get(key).map(String::as_str), Some(want), "{key}");
        }
        assert!(!annotations.contains_key("other"));
        for (key, quota, memory) in [("Resources", 50_000, 64 << 20), ("Overhead", 25_000, 32 << 20)] {
            let text = &annotations[&format!("io.kubernetes.cri-o.PodLinux{key}")];
            let told: serde_json::Value = serde_json::from_str(text).expect("JSON");
            assert_eq!((&told["cpu_quota"], &told["memory_limit_in_bytes"]), (&quota.into(), &memory.into()), "{text}");
        }
        let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).expect("namespaces");
        let network = namespaces.iter().find(|n| n.typ() == LinuxNamespaceType::Network).expect("network");
        assert_eq!(network.path().as_deref(), Some(Path::new("/run/netns/x")));
        assert_eq!(spec.hostname().as_deref(), Some("web"));
        assert_eq!(spec.process().as_ref().and_then(|p| p.oom_score_adj()), Some(-998));
    }
}
