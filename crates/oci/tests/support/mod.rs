//! A container to start from: each test changes what it is about.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cricket_cri_api::v1;
use cricket_model::{ContainerId, SandboxId};
use cricket_oci::oci_spec::runtime::{Capabilities, Capability};
use cricket_oci::{
    AnonymousVolume, ContainerInput, ContainerSpec, DeviceKind, HostDevice, HostFacts, ImageDefaults, MountFacts,
    NamespacePaths, PathKind, Propagation, Result, SandboxFiles, SpecOptions, container_spec,
};

/// A host's paths, as a table; every path that is not in it is an ordinary directory.
#[derive(Default)]
pub struct FakePaths {
    pub kinds: BTreeMap<PathBuf, PathKind>,
    pub propagations: BTreeMap<PathBuf, Propagation>,
    pub devices: BTreeMap<PathBuf, Vec<HostDevice>>,
}

impl MountFacts for FakePaths {
    fn kind(&self, path: &Path) -> PathKind {
        self.kinds.get(path).copied().unwrap_or(PathKind::Directory)
    }
    fn propagation(&self, path: &Path) -> Propagation {
        self.propagations.get(path).copied().unwrap_or(Propagation::Shared)
    }
    fn devices(&self, path: &Path) -> Vec<HostDevice> {
        self.devices.get(path).cloned().unwrap_or_default()
    }
}

pub fn char_device(path: &str, major: u32, minor: u32) -> HostDevice {
    HostDevice { path: path.into(), kind: DeviceKind::Char, major, minor, mode: 0o660, uid: 0, gid: 6 }
}

pub fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

/// A mapping as kubelets give it.
pub fn ids(container_id: u32, host_id: u32, length: u32) -> v1::IdMapping {
    v1::IdMapping { container_id, host_id, length }
}

/// The parts that an input borrows.
pub struct Case {
    pub id: ContainerId,
    pub sandbox_id: SandboxId,
    pub config: v1::ContainerConfig,
    pub sandbox: v1::PodSandboxConfig,
    pub image: ImageDefaults,
    pub passwd: Option<Vec<u8>>,
    pub group: Option<Vec<u8>>,
    pub files: SandboxFiles,
    pub volumes: Vec<AnonymousVolume>,
    pub images: BTreeMap<usize, PathBuf>,
    pub namespaces: NamespacePaths,
    pub host: HostFacts,
    pub handler: SpecOptions,
    pub localhost_seccomp: Option<Vec<u8>>,
    pub selinux: Option<cricket_oci::selinux::SelinuxLabels>,
    pub paths: FakePaths,
}

impl Default for Case {
    fn default() -> Self {
        let all = [Capability::NetAdmin, Capability::SysAdmin, Capability::SysPtrace, Capability::SysTime];
        let bounding: Capabilities = cricket_oci::DEFAULT_CAPABILITIES.into_iter().chain(all).collect();
        Self {
            id: "c".repeat(64).replace('c', "0c").as_str()[..64].parse().unwrap(),
            sandbox_id: "5".repeat(64).parse().unwrap(),
            config: v1::ContainerConfig {
                metadata: Some(v1::ContainerMetadata { name: "web".into(), attempt: 0 }),
                image: Some(v1::ImageSpec { image: "registry.test/web:1".into(), ..Default::default() }),
                log_path: "web/0.log".into(),
                linux: Some(v1::LinuxContainerConfig {
                    resources: None,
                    security_context: Some(v1::LinuxContainerSecurityContext {
                        namespace_options: Some(v1::NamespaceOption {
                            pid: v1::NamespaceMode::Container as i32,
                            ..Default::default()
                        }),
                        ..Default::default()
                    }),
                }),
                ..Default::default()
            },
            sandbox: v1::PodSandboxConfig {
                metadata: Some(v1::PodSandboxMetadata {
                    name: "shop".into(),
                    uid: "6f1c7c1a-0000-4000-8000-000000000001".into(),
                    namespace: "default".into(),
                    attempt: 0,
                }),
                hostname: "shop".into(),
                log_directory: "/var/log/pods/default_shop".into(),
                linux: Some(v1::LinuxPodSandboxConfig {
                    security_context: Some(v1::LinuxSandboxSecurityContext {
                        namespace_options: Some(v1::NamespaceOption {
                            pid: v1::NamespaceMode::Container as i32,
                            ..Default::default()
                        }),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            },
            image: ImageDefaults { entrypoint: strings(&["/bin/web"]), ..Default::default() },
            passwd: Some(
                b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\nann:x:1001:50::/home/ann:\n"
                    .to_vec(),
            ),
            group: Some(b"root:x:0:\nweb:x:1000:\nstaff:x:50000:web,ann\nlog:x:4:ann\n".to_vec()),
            files: SandboxFiles {
                resolv_conf: Some("/run/s/resolv.conf".into()),
                hostname: Some("/run/s/hostname".into()),
                hosts: Some("/run/s/hosts".into()),
                shm: Some("/run/s/shm".into()),
            },
            volumes: vec![],
            images: BTreeMap::new(),
            namespaces: NamespacePaths {
                network: Some("/run/netns/cni-1".into()),
                ipc: Some("/proc/7/ns/ipc".into()),
                uts: Some("/proc/7/ns/uts".into()),
                pid: None,
                user: None,
            },
            host: HostFacts {
                cgroup_v2: true,
                devices: vec![char_device("/dev/null", 1, 3), char_device("/dev/kvm", 10, 232)],
                bounding,
                oom_score_adj: -999,
                may_lower_oom_score: true,
                may_raise_rlimits: true,
                seccomp_supported: true,
                swap_accounting: true,
                hugepage_sizes: strings(&["2MB"]),
                kernel: (6, 1),
                ..Default::default()
            },
            handler: SpecOptions::default(),
            localhost_seccomp: None,
            selinux: None,
            paths: FakePaths::default(),
        }
    }
}

impl Case {
    pub fn context(&mut self) -> &mut v1::LinuxContainerSecurityContext {
        self.config.linux.get_or_insert_default().security_context.get_or_insert_default()
    }

    pub fn pod_context(&mut self) -> &mut v1::LinuxSandboxSecurityContext {
        self.sandbox.linux.get_or_insert_default().security_context.get_or_insert_default()
    }

    pub fn privileged(mut self) -> Self {
        self.context().privileged = true;
        self.pod_context().privileged = true;
        self
    }

    /// A pod with these IDs, and a handler and a kernel for it.
    pub fn with_ids(mut self, ids: v1::IdMapping) -> Self {
        let user = v1::UserNamespace { mode: v1::NamespaceMode::Pod as i32, uids: vec![ids], gids: vec![ids] };
        self.context().namespace_options.get_or_insert_default().userns_options = Some(user.clone());
        self.pod_context().namespace_options.get_or_insert_default().userns_options = Some(user);
        self.namespaces.user = Some("/proc/7/ns/user".into());
        (self.handler.mapped_mounts, self.host.mount_attributes) = (true, true);
        self
    }

    pub fn mount(&mut self, container_path: &str, host_path: &str) -> &mut v1::Mount {
        self.config.mounts.push(v1::Mount {
            container_path: container_path.into(),
            host_path: host_path.into(),
            ..Default::default()
        });
        self.config.mounts.last_mut().unwrap()
    }

    pub fn spec(&self) -> Result<ContainerSpec> {
        container_spec(&ContainerInput {
            id: &self.id,
            sandbox_id: &self.sandbox_id,
            config: &self.config,
            sandbox: &self.sandbox,
            image: &self.image,
            image_name: "registry.test/web:1",
            rootfs: Path::new("/run/cricket/rootfs"),
            passwd: self.passwd.as_deref(),
            group: self.group.as_deref(),
            files: self.files.clone(),
            volumes: self.volumes.clone(),
            images: self.images.clone(),
            namespaces: self.namespaces.clone(),
            cgroups_path: "/kubepods/pod1/c".into(),
            host_name: "node-1",
            host: &self.host,
            handler: &self.handler,
            localhost_seccomp: self.localhost_seccomp.as_deref(),
            selinux: self.selinux.as_ref(),
            mounts: &self.paths,
        })
    }

    /// The message of the refusal.
    pub fn refusal(&self) -> String {
        match self.spec() {
            Ok(_) => panic!("was accepted"),
            Err(error) => error.to_string(),
        }
    }

    /// A mount of an image, which is on the host.
    pub fn image_mount(&mut self, container_path: &str, sub_path: &str) -> &mut v1::Mount {
        self.images.insert(self.config.mounts.len(), "/run/s/images/0".into());
        let mount = self.mount(container_path, "");
        mount.image = Some(v1::ImageSpec { image: "registry.test/data:1".into(), ..Default::default() });
        mount.image_sub_path = sub_path.into();
        mount
    }
}
