//! What is remembered of a pod: the records in its journal and in the store.
//!
//! A pod's whole record is written at every transition: first to the pod's journal below the state directory (which
//! dies with the boot, like the processes it speaks of), then to the store below the root directory.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cricket_cri_api::v1;
use cricket_model::{ContainerId, SandboxId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::timeline::Timeline;

/// A CRI message kept in its protobuf form, so that fields of newer kubelets survive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stored<T>(pub T);

impl<T: prost::Message> Serialize for Stored<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(self.0.encode_to_vec()))
    }
}

impl<'de, T: prost::Message + Default> Deserialize<'de> for Stored<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(d)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        T::decode(bytes.as_slice()).map(Stored).map_err(D::Error::custom)
    }
}

/// Whether a sandbox can take containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Being made; rolled back by a restart. Never listed.
    Creating,
    /// Its namespaces and network are there.
    Ready,
    /// Stopped, or its namespaces are gone.
    NotReady,
    /// Being removed; a restart goes on with it. Never listed.
    Removing,
}

/// The sandbox part of a pod's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its ID.
    pub id: SandboxId,
    /// As the kubelet gave it.
    pub config: Stored<v1::PodSandboxConfig>,
    /// The handler that was asked for; empty is the default.
    pub handler: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// The boot in which it was made (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Where its network namespace is pinned; none on the host's network.
    pub netns: Option<PathBuf>,
    /// What the network plugins answered.
    pub network: Option<cricket_cni::Attachment>,
    /// PID of the reaper of a shared PID namespace, with its start time in clock ticks since boot.
    pub init: Option<(u32, u64)>,
    /// Labels of its containers; none without SELinux.
    #[serde(default)]
    pub selinux: Option<cricket_oci::selinux::SelinuxLabels>,
    /// Its state.
    pub state: SandboxState,
    /// What UpdatePodSandboxResources said last: overhead and the sum of the containers' resources. Until then they
    /// are the configuration's.
    #[serde(default)]
    pub updated: Option<PodResources>,
    /// What was done to it.
    #[serde(default, skip_serializing_if = "Timeline::is_empty")]
    pub timeline: Timeline,
}

/// What a pod as a whole is to have; the kubelet sizes its cgroup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodResources {
    /// What the pod costs besides its containers.
    pub overhead: Stored<v1::LinuxContainerResources>,
    /// The sum of its containers'.
    pub resources: Stored<v1::LinuxContainerResources>,
}

/// A container's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Being made; rolled back by a restart. Never listed.
    Creating,
    /// Made, never started.
    Created,
    /// Its init is being launched.
    Starting,
    /// Its init runs.
    Running(Running),
    /// It ran, or failed to start.
    Exited(Exited),
    /// Being removed. Never listed.
    Removing,
}

/// A container whose init runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Host PID of its init.
    pub pid: u32,
    /// Start time of that process (clock ticks since boot, proc(5) stat field 22): PIDs are reused.
    pub start_ticks: u64,
    /// Nanoseconds since 1970.
    pub started_at: i64,
}

/// A container that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Exit status; 128 + signal when a signal ended it.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`.
    pub reason: String,
    /// The cause, for a person.
    pub message: String,
    /// Nanoseconds since 1970; 0 when it never ran.
    pub started_at: i64,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
}

/// The image a container was made from, as it was then.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// What the kubelet asked for: `ContainerStatus.image.image`.
    pub name: String,
    /// `user_specified_image`.
    pub user_specified: String,
    /// `repo@digest` (or the image ID where it has none): `image_ref`.
    pub reference: String,
    /// The config digest: `image_id`.
    pub id: String,
}

/// An image that is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedRef {
    /// The index of its mount in the container's configuration.
    pub index: usize,
    /// As [`ImageFacts::reference`].
    pub reference: String,
}

/// A container's poststop hooks that cricket sees to. They are run once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Poststop {
    /// It has none.
    #[default]
    Absent,
    /// It has some, and was never launched.
    Idle,
    /// To be run when it has ended.
    Due,
    /// They were begun, and are not begun again.
    Begun,
}

/// One container of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its ID.
    pub id: ContainerId,
    /// As the kubelet gave it.
    pub config: Stored<v1::ContainerConfig>,
    /// Its image.
    pub image: ImageFacts,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Its state.
    pub state: ContainerState,
    /// What was done to it.
    #[serde(default, skip_serializing_if = "Timeline::is_empty")]
    pub timeline: Timeline,
    /// Absolute cgroup path, without the hierarchy's mount point.
    pub cgroup: String,
    /// Absolute path of its log; empty for none.
    pub log_path: String,
    /// Number of the signal that asks it to stop.
    pub stop_signal: i32,
    /// User it runs as.
    pub user: Stored<v1::LinuxContainerUser>,
    /// Resources as last applied.
    pub resources: Stored<v1::LinuxContainerResources>,
    /// Anonymous volumes (image `VOLUME`s): removed with it.
    pub volumes: Vec<PathBuf>,
    /// The images that are mounted into it.
    #[serde(default)]
    pub images: Vec<MountedRef>,
    /// Host directories that a mount names and that have to be made before the start.
    pub make_dirs: Vec<PathBuf>,
    /// Its poststop hooks.
    #[serde(default)]
    pub poststop: Poststop,
}

/// A pod: its sandbox and its containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodRecord {
    /// The sandbox.
    pub sandbox: SandboxRecord,
    /// The containers, oldest first.
    pub containers: Vec<Arc<ContainerRecord>>,
}

impl cricket_store::Record for PodRecord {
    const TABLE: &'static str = "pods";
}

impl SandboxRecord {
    /// The name that no other sandbox may have at the same time.
    pub fn key(config: &v1::PodSandboxConfig) -> String {
        let m = config.metadata.clone().unwrap_or_default();
        format!("{}/{}/{}/{}", m.namespace, m.name, m.uid, m.attempt)
    }

    /// The pod's overhead and the sum of its containers' resources, as last said.
    pub fn pod_resources(&self) -> (Option<&v1::LinuxContainerResources>, Option<&v1::LinuxContainerResources>) {
        match (&self.updated, &self.config.0.linux) {
            (Some(updated), _) => (Some(&updated.overhead.0), Some(&updated.resources.0)),
            (None, Some(linux)) => (linux.overhead.as_ref(), linux.resources.as_ref()),
            (None, None) => (None, None),
        }
    }

    /// Whether the pod runs in the host's network namespace.
    pub fn host_network(&self) -> bool {
        self.netns.is_none()
    }
}

impl ContainerRecord {
    /// The name that no other container of the pod may have at the same time.
    pub fn key(config: &v1::ContainerConfig) -> String {
        let m = config.metadata.clone().unwrap_or_default();
        format!("{}/{}", m.name, m.attempt)
    }

    /// Its launch begins: what comes after its end is due.
    pub(crate) fn launching(&mut self) {
        self.state = ContainerState::Starting;
        if self.poststop == Poststop::Idle {
            self.poststop = Poststop::Due;
        }
    }

    /// It was not launched after all, and can be started.
    pub(crate) fn unlaunched(&mut self) {
        self.state = ContainerState::Created;
        if self.poststop == Poststop::Due {
            self.poststop = Poststop::Idle;
        }
    }

    /// Whether lists show it.
    pub fn listed(&self) -> bool {
        !matches!(self.state, ContainerState::Creating | ContainerState::Removing)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn sandbox() -> SandboxRecord {
        SandboxRecord {
            id: SandboxId::generate(),
            config: Stored::default(),
            handler: String::new(),
            created_at: 1,
            boot_id: String::new(),
            netns: None,
            network: None,
            init: None,
            selinux: None,
            state: SandboxState::Ready,
            updated: None,
            timeline: Timeline::default(),
        }
    }

    /// A pod with one container.
    pub(crate) fn example() -> PodRecord {
        let container = ContainerRecord {
            id: ContainerId::generate(),
            config: Stored::default(),
            image: ImageFacts::default(),
            created_at: 1,
            state: ContainerState::Created,
            timeline: Timeline::default(),
            cgroup: String::new(),
            log_path: String::new(),
            stop_signal: 15,
            user: Stored::default(),
            resources: Stored::default(),
            volumes: Vec::new(),
            images: Vec::new(),
            make_dirs: Vec::new(),
            poststop: Poststop::Absent,
        };
        PodRecord { sandbox: sandbox(), containers: vec![container.into()] }
    }

    #[test]
    fn records_of_pods_that_were_never_updated_are_read() {
        let record = SandboxRecord {
            config: Stored(v1::PodSandboxConfig {
                linux: Some(v1::LinuxPodSandboxConfig {
                    overhead: Some(v1::LinuxContainerResources { cpu_shares: 7, ..Default::default() }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..sandbox()
        };
        let mut json = serde_json::to_value(&record).expect("serialise");
        json.as_object_mut().expect("an object").remove("updated").expect("the field");
        let mut old: SandboxRecord = serde_json::from_value(json).expect("parse");
        assert_eq!(old.pod_resources().0.map(|r| r.cpu_shares), Some(7));
        assert_eq!(old.pod_resources().1, None);
        let said = |shares| Stored(v1::LinuxContainerResources { cpu_shares: shares, ..Default::default() });
        old.updated = Some(PodResources { overhead: said(8), resources: said(9) });
        let text = serde_json::to_string(&old).expect("serialise");
        let read: SandboxRecord = serde_json::from_str(&text).expect("parse");
        let (overhead, resources) = read.pod_resources();
        assert_eq!((overhead.map(|r| r.cpu_shares), resources.map(|r| r.cpu_shares)), (Some(8), Some(9)));
    }

    #[test]
    fn a_stored_message_survives_json() {
        let config = v1::PodSandboxConfig { hostname: "h\u{e9}".into(), ..Default::default() };
        let json = serde_json::to_string(&Stored(config.clone())).expect("serialise");
        let back: Stored<v1::PodSandboxConfig> = serde_json::from_str(&json).expect("parse");
        assert_eq!(back.0, config);
        assert!(serde_json::from_str::<Stored<v1::PodSandboxConfig>>("\"%%%\"").is_err());
    }
}
