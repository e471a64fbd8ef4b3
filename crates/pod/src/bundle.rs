//! A container's bundle: its specification on the way from create to start and to every exec.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use cricket_cgroup::{Hierarchies, Version};
use cricket_cri_api::v1;
use cricket_oci::HostFacts;
use cricket_oci::oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxNamespace, LinuxNamespaceType, Spec};

use crate::error::{Error, Result};

/// Stands for the path of a namespace that is known at the start only.
pub(crate) const LATER: &str = "/proc/self/ns/later";

/// Namespaces as they are at the start.
#[derive(Debug, Default, Clone)]
pub(crate) struct Joined {
    pub(crate) ipc: Option<std::path::PathBuf>,
    pub(crate) uts: Option<std::path::PathBuf>,
    pub(crate) user: Option<std::path::PathBuf>,
    /// An open namespace, which a PID that is reused cannot replace; named through this process while it is kept.
    pub(crate) pid: Option<std::sync::Arc<std::fs::File>>,
}

/// Makes a folder, and those above it that are missing, that others may pass through and not list: root filesystems are
/// below, and user namespaces have to reach them.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o711).create(path)
}

/// Writes the bundle's `config.json`. Only root may read it: the environment has secrets.
pub(crate) fn write(bundle: &Path, spec: &Spec) -> Result<()> {
    let path = bundle.join("config.json");
    let text = serde_json::to_vec(spec).map_err(|e| Error::internal("encode the specification", &e))?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(&text))
        .map_err(|e| Error::internal(format_args!("write {}", path.display()), &e))
}

/// Reads it.
pub(crate) fn read(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).map_err(|e| Error::internal(format_args!("read {}", path.display()), &e))?;
    serde_json::from_slice(&text).map_err(|e| Error::internal(format_args!("parse {}", path.display()), &e))
}

/// Puts the namespaces' paths in where they were left open.
///
/// # Errors
/// When the specification joins a namespace that the pod does not have (any more).
pub(crate) fn join(spec: &mut Spec, joined: &Joined) -> Result<()> {
    let Some(mut linux) = spec.linux().clone() else { return Ok(()) };
    let pid = joined.pid.as_ref().map(|fd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()).into());
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    for namespace in &mut namespaces {
        if namespace.path().as_deref() != Some(Path::new(LATER)) {
            continue;
        }
        let path = match namespace.typ() {
            LinuxNamespaceType::Ipc => &joined.ipc,
            LinuxNamespaceType::Uts => &joined.uts,
            LinuxNamespaceType::User => &joined.user,
            LinuxNamespaceType::Pid => &pid,
            other => return Err(Error::precondition(format_args!("the pod has no {other} namespace to join"))),
        };
        let Some(path) = path else {
            return Err(Error::precondition(format_args!("the pod's {} namespace is gone", namespace.typ())));
        };
        namespace.set_path(Some(path.clone()));
    }
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
    Ok(())
}

/// Puts the resources in as they are at the start: an update may have come since the create.
pub(crate) fn limit(spec: &mut Spec, resources: &v1::LinuxContainerResources, host: &HostFacts) -> Result<()> {
    let Some(mut linux) = spec.linux().clone() else { return Ok(()) };
    let mut wanted = cricket_oci::linux_resources(resources, host).map_err(|e| Error::from_kinded("resources", &e))?;
    // What is not the CRI's stays: device rules, and what plugins or the handler's base specification set.
    if let Some(old) = linux.resources() {
        wanted
            .set_devices(old.devices().clone())
            .set_pids(*old.pids())
            .set_block_io(old.block_io().clone())
            .set_network(old.network().clone())
            .set_rdma(old.rdma().clone());
        if let Some(old) = old.memory() {
            let mut memory = (*wanted.memory()).unwrap_or_default();
            memory
                .set_reservation(old.reservation())
                .set_kernel(old.kernel())
                .set_kernel_tcp(old.kernel_tcp())
                .set_swappiness(old.swappiness())
                .set_disable_oom_killer(old.disable_oom_killer())
                .set_use_hierarchy(old.use_hierarchy());
            wanted.set_memory((memory != LinuxMemory::default()).then_some(memory));
        }
        if let Some(old) = old.cpu() {
            let mut cpu = wanted.cpu().clone().unwrap_or_default();
            cpu.set_realtime_runtime(old.realtime_runtime()).set_realtime_period(old.realtime_period());
            wanted.set_cpu((cpu != LinuxCpu::default()).then_some(cpu));
        }
    }
    linux.set_resources(Some(wanted));
    spec.set_linux(Some(linux));
    Ok(())
}

/// Leaves limits of huge pages out where a hybrid host has their controller in version 2's hierarchy: OCI runtimes look
/// among version 1's only, and then refuse every container of a kubelet, which always names them. The cgroup has them
/// already: it is made, with all its limits, before any runtime is called.
pub(crate) fn leave_hybrid(spec: &mut Spec, hierarchies: &Hierarchies) {
    let there = hierarchies.version() == Version::V2 || hierarchies.all().iter().any(|each| each.has("hugetlb"));
    let Some(mut linux) = spec.linux().clone().filter(|_| !there) else { return };
    let Some(mut resources) = linux.resources().clone() else { return };
    resources.set_hugepage_limits(None);
    linux.set_resources(Some(resources));
    spec.set_linux(Some(linux));
}

/// Leaves the IDs out where a user namespace is joined that has them: runtime-spec has a path or mappings, and runc
/// insists. The built-in handler looks at both.
pub(crate) fn leave_mappings(spec: &mut Spec) {
    let Some(mut linux) = spec.linux().clone() else { return };
    let user = |namespace: &LinuxNamespace| namespace.typ() == LinuxNamespaceType::User && namespace.path().is_some();
    if linux.namespaces().iter().flatten().any(user) {
        linux.set_uid_mappings(None).set_gid_mappings(None);
        spec.set_linux(Some(linux));
    }
}

#[cfg(test)]
mod tests {
    use cricket_cgroup::{Hierarchy, Kind};
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_of_huge_pages_stay_where_runtimes_find_the_controller() {
        let resources = json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }], "memory": { "limit": 1 } });
        let spec = json!({ "ociVersion": "1.1.0", "linux": { "resources": resources } });
        let left = |version, kinds: Vec<Kind>| {
            let list = kinds.into_iter().map(|kind| Hierarchy { mount: "/sys/fs/cgroup".into(), kind }).collect();
            let mut spec: Spec = serde_json::from_value(spec.clone()).expect("a specification");
            leave_hybrid(&mut spec, &Hierarchies::new(version, list));
            let resources = spec.linux().clone().and_then(|linux| linux.resources().clone()).expect("resources");
            assert!(resources.memory().is_some());
            resources.hugepage_limits().is_some()
        };
        let v1 = |controller: &str| Kind::V1(vec![controller.to_owned()]);
        assert!(left(Version::V2, vec![Kind::V2]));
        assert!(left(Version::V1, vec![v1("memory"), v1("hugetlb"), Kind::V2]));
        assert!(!left(Version::V1, vec![v1("memory"), Kind::V2]));
    }
}
