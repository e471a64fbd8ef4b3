//! The specification as libcontainer 0.7 has to be given it, so that what the daemon's says comes true.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cricket_wire::launch_config::{CgroupDirectory, YoukiConfig};
use libcontainer::oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Mount, MountBuilder, Spec};

use crate::error::Error;

/// Where cgroups are in a container.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// A bundle of the helper's own, with the adapted `config.json`; removed when dropped.
#[derive(Debug)]
pub(super) struct Adapted(PathBuf);

impl Adapted {
    /// Adapts the specification and writes it below the bundle.
    pub(super) fn write(mut spec: Spec, config: &YoukiConfig) -> Result<Self, Error> {
        adapt(&mut spec, config)?;
        let dir = config.bundle.join(".launch");
        let failed = |e| Error::io(format!("write {}", dir.display()), e);
        // Left over from a helper that was killed.
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        let adapted = Self(dir.clone());
        let text = serde_json::to_vec(&spec).map_err(|e| failed(e.into()))?;
        fs::write(dir.join("config.json"), text).map_err(failed)?;
        Ok(adapted)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }
}

impl Drop for Adapted {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes `root.path` absolute and free of links; returns it.
pub(super) fn absolute_rootfs(spec: &mut Spec, bundle: &Path) -> Result<PathBuf, Error> {
    let mut root = spec.root().clone().ok_or_else(|| Error::host("config.json has no root"))?;
    let path = bundle.join(root.path());
    let path = fs::canonicalize(&path).map_err(|e| Error::io(format!("resolve {}", path.display()), e))?;
    root.set_path(path.clone());
    spec.set_root(Some(root));
    Ok(path)
}

fn adapt(spec: &mut Spec, config: &YoukiConfig) -> Result<(), Error> {
    let mut process = spec.process().clone().ok_or_else(|| Error::host("config.json has no process"))?;
    let mut linux = spec.linux().clone().ok_or_else(|| Error::host("config.json has no linux section"))?;

    // The executor's work. libcontainer drops capabilities before seccomp could be loaded without no_new_privs.
    process.set_capabilities(None);
    process.set_cwd(PathBuf::from("/"));
    // An explicit `false` counts as "set" when libcontainer decides when to load seccomp.
    if process.no_new_privileges() == Some(false) {
        process.set_no_new_privileges(None);
    }
    // Without HOME libcontainer asks NSS in the container, which loads libraries of the image. The executor uses the
    // daemon's environment, not this one.
    process.set_env(Some(vec!["HOME=/".to_owned()]));
    if config.seccomp.is_some() {
        linux.set_seccomp(None);
    }

    let namespaces = linux.namespaces().clone().unwrap_or_default();
    if !namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Mount && n.path().is_none()) {
        return Err(Error::host("config.json has no mount namespace of its own: mounts would appear on the host"));
    }
    // Everything else would let the container's mounts propagate to the host.
    linux.set_rootfs_propagation(Some("slave".to_owned()));
    // The daemon has set the limits; only v1's device rules are left to libcontainer.
    let mut devices_only = LinuxResources::default();
    devices_only.set_devices(linux.resources().as_ref().and_then(|r| r.devices().clone()));
    linux.set_resources(Some(devices_only));

    if !config.cgroup.v1_directories.is_empty() {
        let mounts = spec.mounts().clone().unwrap_or_default();
        let mut read_only = linux.readonly_paths().clone().unwrap_or_default();
        spec.set_mounts(Some(show_cgroups(mounts, &config.cgroup.v1_directories, &mut read_only)?));
        linux.set_readonly_paths(Some(read_only));
    }
    spec.set_process(Some(process));
    spec.set_linux(Some(linux));
    Ok(())
}

/// libcontainer mounts v1 hierarchies writable whatever the options say, by which a container could lift its own
/// limits: a mount of type `cgroup` becomes a tmpfs with a bind mount of the container's directory of each hierarchy.
fn show_cgroups(
    mounts: Vec<Mount>,
    directories: &[CgroupDirectory],
    read_only: &mut Vec<String>,
) -> Result<Vec<Mount>, Error> {
    let mut adapted = Vec::with_capacity(mounts.len() + directories.len());
    for mount in mounts {
        if mount.typ().as_deref() != Some("cgroup") {
            adapted.push(mount);
            continue;
        }
        let ro = mount.options().as_ref().is_some_and(|options| options.iter().any(|o| o == "ro"));
        let common = ["nosuid", "nodev", "noexec"];
        adapted.push(new_mount(mount.destination(), "tmpfs", "tmpfs", common.into_iter().chain(["mode=755"]))?);
        for directory in directories {
            let options = common.into_iter().chain(["bind", if ro { "ro" } else { "rw" }]);
            let target = mount.destination().join(&directory.name);
            adapted.push(new_mount(&target, "bind", &directory.directory, options)?);
        }
        // The tmpfs itself, once everything is mounted in it.
        if ro && mount.destination() == Path::new(CGROUP_ROOT) {
            read_only.push(CGROUP_ROOT.to_owned());
        }
    }
    Ok(adapted)
}

fn new_mount<'a>(
    destination: &Path,
    kind: &str,
    source: impl AsRef<Path>,
    options: impl Iterator<Item = &'a str>,
) -> Result<Mount, Error> {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source.as_ref())
        .options(options.map(str::to_owned).collect::<Vec<_>>())
        .build()
        .map_err(|e| Error::chain("describe a mount", &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cricket_wire::launch_config::LaunchCgroup;

    fn config(v1: bool) -> YoukiConfig {
        let directory = CgroupDirectory { name: "memory".into(), directory: "/cg/memory/c".into() };
        YoukiConfig {
            id: "c".into(),
            bundle: "/b".into(),
            root: "/r".into(),
            terminal: false,
            no_pivot: false,
            cgroup: LaunchCgroup { v1_directories: if v1 { vec![directory] } else { vec![] }, ..Default::default() },
            seccomp: None,
        }
    }

    fn spec(change: impl Fn(&mut serde_json::Value)) -> Spec {
        let mut value = serde_json::to_value(Spec::default()).expect("spec");
        change(&mut value);
        serde_json::from_value(value).expect("spec")
    }

    #[test]
    fn cgroup_mounts_become_read_only_binds() {
        let mut spec = spec(|_| ());
        adapt(&mut spec, &config(true)).expect("adapt");
        let mounts = spec.mounts().clone().expect("mounts");
        assert!(mounts.iter().all(|m| m.typ().as_deref() != Some("cgroup")));
        let memory = mounts.iter().find(|m| m.destination() == Path::new("/sys/fs/cgroup/memory")).expect("memory");
        assert_eq!(memory.source().as_deref(), Some(Path::new("/cg/memory/c")));
        assert!(memory.options().as_ref().expect("options").contains(&"ro".to_owned()));
        let linux = spec.linux().as_ref().expect("linux");
        assert!(linux.readonly_paths().as_ref().expect("paths").contains(&CGROUP_ROOT.to_owned()));
    }

    #[test]
    fn v2_keeps_its_mount_and_nothing_propagates() {
        let mut spec = spec(|v| v["linux"]["rootfsPropagation"] = "rshared".into());
        adapt(&mut spec, &config(false)).expect("adapt");
        assert!(spec.mounts().as_ref().expect("mounts").iter().any(|m| m.typ().as_deref() == Some("cgroup")));
        let linux = spec.linux().as_ref().expect("linux");
        assert_eq!(linux.rootfs_propagation().as_deref(), Some("slave"));
    }

    #[test]
    fn a_mount_namespace_is_needed() {
        let mut without = spec(|v| v["linux"]["namespaces"] = serde_json::json!([{"type": "pid"}]));
        assert!(adapt(&mut without, &config(false)).expect_err("none").to_string().contains("mount namespace"));
        let joined = serde_json::json!([{"type": "mount", "path": "/proc/1/ns/mnt"}]);
        let mut joined = spec(|v| v["linux"]["namespaces"] = joined.clone());
        assert!(adapt(&mut joined, &config(false)).is_err());
    }
}
