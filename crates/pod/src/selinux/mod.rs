//! SELinux on the daemon's side: which labels pods and containers get, and giving them to volumes.
//!
//! A pod has a level with two categories of its own, or the one that it asks for, and its containers have the same one,
//! so that they share volumes and nothing with other pods. The record of the pod keeps it; after a restart it is
//! reserved again. Nothing here works without `enable_selinux`.

mod relabel;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cricket_cri_api::v1;
use cricket_model::{ErrorKind, SandboxId};
use cricket_oci::SandboxFiles;
use cricket_oci::selinux::{Categories, Contexts, Label, SelinuxLabels, asks_for_confinement, asks_for_label};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::record::{ContainerRecord, PodRecord, SandboxRecord};
use crate::sandbox::sandbox_files;
use crate::shared::Shared;

/// Where the kernel's interface is.
const SELINUXFS: &str = "/sys/fs/selinux";
/// Magic number of it (linux/magic.h).
const MAGIC: u64 = 0xf97c_ff8c;
/// Says which of the policies installed is used.
const CONFIG: &str = "/etc/selinux/config";
/// Where container-selinux has it for hosts without a policy's own.
const SHARED_CONTEXTS: &str = "/usr/share/containers/selinux/contexts";
/// More than any of these files has.
const FILE_LIMIT: u64 = 64 << 10;

/// Why labels cannot be given though they are configured.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of the policy.
    #[error("read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// Its content.
    #[error("{0}: {1}")]
    Content(PathBuf, String),
}

/// Labels for pods; [`Selinux::default`] gives none.
#[derive(Debug, Default)]
pub struct Selinux(Option<Enabled>);

#[derive(Debug)]
struct Enabled {
    contexts: Contexts,
    range: u16,
    categories: Mutex<Categories>,
}

impl Selinux {
    /// Whether the kernel has SELinux, with a policy.
    pub fn on_this_host() -> bool {
        let mounted = rustix::fs::statfs(SELINUXFS).is_ok_and(|stat| stat.f_type as u64 == MAGIC);
        // Before a policy is loaded there is but one label, without colons.
        mounted && std::fs::read("/proc/self/attr/current").is_ok_and(|label| label.contains(&b':'))
    }

    /// Reads what the policy of this host gives containers. Categories of pods are below `range`.
    ///
    /// # Errors
    /// When the policy says nothing of containers: they would run unconfined.
    pub fn open(range: u16) -> std::result::Result<Self, OpenError> {
        let text = |path: &Path| read(path).map_err(|e| OpenError::Read(path.to_owned(), e));
        let shared = Path::new(SHARED_CONTEXTS);
        let path = match shared.exists() {
            true => shared.to_owned(),
            false => {
                let kind = policy_type(&read(Path::new(CONFIG)).unwrap_or_default());
                Path::new("/etc/selinux").join(kind).join("contexts/lxc_contexts")
            }
        };
        let contexts = Contexts::parse(&text(&path)?).map_err(|e| OpenError::Content(path, e))?;
        Ok(Self(Some(Enabled { contexts, range, categories: Mutex::default() })))
    }

    /// Labels of a new pod; `None` without SELinux.
    ///
    /// # Errors
    /// Options that are malformed, that the loaded policy does not know, or that nothing here could enforce.
    pub(crate) fn of_pod(&self, id: &SandboxId, config: &v1::PodSandboxConfig) -> Result<Option<SelinuxLabels>> {
        let context = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        let options = context.and_then(|c| c.selinux_options.as_ref());
        let Some(enabled) = &self.0 else { return nothing(options) };
        let asked = options.is_some_and(|o| !o.level.is_empty());
        let level = match asked || !enabled.contexts.has_levels() {
            true => String::new(),
            false => enabled.allocate(id)?,
        };
        let labels = enabled.labels(options, &level);
        match &labels {
            Ok(labels) => enabled.with(|categories| categories.reserve(id.as_str(), &labels.process.level)),
            Err(_) => self.release(id),
        }
        labels.map(Some)
    }

    /// Labels of a container in a pod that has these.
    ///
    /// # Errors
    /// As [`Selinux::of_pod`].
    pub(crate) fn of_container(
        &self,
        pod: &SandboxId,
        labels: Option<&SelinuxLabels>,
        config: &v1::ContainerConfig,
    ) -> Result<Option<SelinuxLabels>> {
        let options = options(config);
        let (Some(enabled), Some(labels)) = (&self.0, labels) else { return nothing(options) };
        if !asks_for_label(options) {
            return Ok(Some(labels.clone()));
        }
        let own = enabled.labels(options, &labels.process.level)?;
        enabled.with(|categories| categories.reserve(pod.as_str(), &own.process.level));
        Ok(Some(own))
    }

    /// A pod from before a restart has its labels, and each of its containers what [`Selinux::of_container`] gave it.
    pub(crate) fn reserve(&self, record: &PodRecord) {
        let (Some(enabled), Some(labels)) = (&self.0, &record.sandbox.selinux) else { return };
        let own = record.containers.iter().filter_map(|c| options(&c.config.0)).map(|options| &options.level);
        let levels = own.chain([&labels.process.level]);
        enabled.with(|categories| levels.for_each(|level| categories.reserve(record.sandbox.id.as_str(), level)));
    }

    /// The pod is gone, and its categories may be another's.
    pub(crate) fn release(&self, pod: &SandboxId) {
        if let Some(enabled) = &self.0 {
            enabled.with(|categories| categories.release(pod.as_str()));
        }
    }
}

impl Enabled {
    fn with<T>(&self, f: impl FnOnce(&mut Categories) -> T) -> T {
        f(&mut self.categories.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn allocate(&self, pod: &SandboxId) -> Result<String> {
        let random = |below: u16| (uuid::Uuid::new_v4().as_u128() % u128::from(below)) as u16;
        self.with(|categories| categories.allocate(pod.as_str(), self.range, random)).ok_or_else(|| {
            let text = format_args!("every pair of SELinux categories below {} is some pod's", self.range);
            Error::new(ErrorKind::ResourceExhausted, text)
        })
    }

    fn labels(&self, options: Option<&v1::SeLinuxOption>, level: &str) -> Result<SelinuxLabels> {
        let labels = self.contexts.labels(options, level).map_err(|e| Error::from_kinded("SELinux", &e))?;
        [&labels.process, &labels.files].into_iter().try_for_each(known)?;
        Ok(labels)
    }
}

/// Refuses a label that the loaded policy does not have (selinuxfs, `context`).
fn known(label: &Label) -> Result<()> {
    let path = Path::new(SELINUXFS).join("context");
    let text = label.to_string();
    match std::fs::write(&path, &text) {
        Ok(()) => Ok(()),
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => {
            Err(Error::invalid(format_args!("the SELinux policy of this host does not know the label {text:?}")))
        }
        Err(e) => Err(Error::internal(format_args!("ask {} about {text:?}", path.display()), &e)),
    }
}

/// What a container asks for.
fn options(config: &v1::ContainerConfig) -> Option<&v1::SeLinuxOption> {
    config.linux.as_ref()?.security_context.as_ref()?.selinux_options.as_ref()
}

/// What cannot be enforced is refused.
fn nothing(options: Option<&v1::SeLinuxOption>) -> Result<Option<SelinuxLabels>> {
    match asks_for_confinement(options) {
        true => {
            let text = "linux.security_context.selinux_options: SELinux is not enabled on this host, or enable_selinux is not set";
            Err(Error::precondition(text))
        }
        false => Ok(None),
    }
}

/// Gives labels to what a container that is being started is to reach: its own to volumes that say so and to what belongs
/// to it alone, the pod's to what the pod gives all its containers, whatever label this one has. Blocks for as long as the
/// volumes are large, or until `cancelled`.
///
/// # Errors
/// As [`relabel::relabel`].
pub(crate) fn relabel_files(
    shared: &Shared,
    sandbox: &SandboxRecord,
    container: &ContainerRecord,
    label: &str,
    cancelled: &dyn Fn() -> bool,
) -> Result<()> {
    let asked = container.config.0.mounts.iter().filter(|m| m.selinux_relabel && !m.host_path.is_empty());
    let volumes = asked.map(|mount| Path::new(&mount.host_path)).chain(container.volumes.iter().map(PathBuf::as_path));
    if let Some(labels) = &sandbox.selinux {
        let files = sandbox_files(&shared.pod_dir(&sandbox.id), &sandbox.config.0);
        label_pod(&files, &labels.files.to_string())?;
    }
    volumes.into_iter().try_for_each(|path| relabel::relabel(path, label, cancelled))
}

/// Labels the pod's files. What containers have made in its shared memory is theirs.
fn label_pod(files: &SandboxFiles, label: &str) -> Result<()> {
    let files = [&files.resolv_conf, &files.hostname, &files.hosts, &files.shm].into_iter().flatten();
    // The host's is the host's.
    files.filter(|path| *path != Path::new("/dev/shm")).try_for_each(|path| relabel::relabel_alone(path, label))
}

/// Refuses volumes that would relabel the host, before anything is made.
pub(crate) fn check_volumes(config: &v1::ContainerConfig) -> Result<()> {
    for (index, mount) in config.mounts.iter().enumerate() {
        if mount.selinux_relabel && relabel::is_of_the_host(Path::new(&mount.host_path)) {
            let text = format_args!("mounts[{index}].selinux_relabel: {} belongs to the host", mount.host_path);
            return Err(Error::invalid(text));
        }
    }
    Ok(())
}

/// The policy that the host's configuration names.
fn policy_type(config: &str) -> String {
    let lines = config.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let entries = lines.filter_map(|line| line.split_once('='));
    let named = entries.filter(|(key, _)| key.trim() == "SELINUXTYPE").map(|(_, value)| value.trim().trim_matches('"'));
    let plain = |name: &&str| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    named.rev().find(plain).unwrap_or("targeted").to_owned()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    match length as u64 > FILE_LIMIT {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILE_LIMIT} bytes"))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_policy() {
        assert_eq!(policy_type(""), "targeted");
        assert_eq!(policy_type("# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE = default \n"), "default");
        assert_eq!(policy_type("SELINUXTYPE=../x\n"), "targeted");
    }

    #[test]
    fn without_it_labels_are_refused() {
        let (off, id) = (Selinux::default(), SandboxId::generate());
        let mut config = v1::PodSandboxConfig::default();
        assert_eq!(off.of_pod(&id, &config).expect("nothing asked"), None);
        let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        context.selinux_options = Some(v1::SeLinuxOption { level: "s0:c1,c2".into(), ..Default::default() });
        let error = off.of_pod(&id, &config).expect_err("asked");
        assert!(error.to_string().contains("enable_selinux"), "{error}");
        let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        context.selinux_options = Some(v1::SeLinuxOption { level: "s0".into(), ..Default::default() });
        assert_eq!(off.of_pod(&id, &config).expect("nothing that confines"), None);
    }

    #[test]
    fn levels_of_pods_and_of_their_containers_are_taken_after_a_restart() {
        let text = "process = \"system_u:system_r:container_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\n";
        let contexts = Contexts::parse(text).expect("contexts");
        let mut record = crate::record::tests::example();
        record.sandbox.selinux = Some(contexts.labels(None, "s0:c0,c1").expect("labels"));
        let context = |level: &str| v1::LinuxContainerSecurityContext {
            selinux_options: Some(v1::SeLinuxOption { level: level.into(), ..Default::default() }),
            ..Default::default()
        };
        let example = record.containers.pop().expect("a container");
        record.containers = ["", "s0:c2,c0", ""]
            .map(|level| {
                let mut container = example.as_ref().clone();
                container.config.0.linux.get_or_insert_default().security_context = Some(context(level));
                container.into()
            })
            .to_vec();
        let selinux = Selinux(Some(Enabled { contexts, range: 3, categories: Mutex::default() }));
        selinux.reserve(&record);
        let enabled = selinux.0.as_ref().expect("enabled");
        assert_eq!(enabled.allocate(&SandboxId::generate()).expect("the last pair"), "s0:c1,c2");
        let error = enabled.allocate(&SandboxId::generate()).expect_err("no pair is left");
        assert_eq!(cricket_model::Kinded::kind(&error), ErrorKind::ResourceExhausted);
        // All of them go with their pod.
        selinux.release(&record.sandbox.id);
        for _ in 0..2 {
            enabled.allocate(&SandboxId::generate()).expect("free again");
        }
    }

    #[test]
    fn files_of_the_pod_have_its_label_and_what_is_in_its_memory_is_left() {
        let folder = tempfile::tempdir().expect("folder");
        let [hosts, shm] = ["hosts", "shm"].map(|name| folder.path().join(name));
        std::fs::write(&hosts, "").expect("write");
        std::fs::create_dir(&shm).expect("mkdir");
        std::fs::write(shm.join("made"), "").expect("write");
        let files = SandboxFiles { hosts: Some(hosts.clone()), shm: Some(shm.clone()), ..SandboxFiles::default() };
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        label_pod(&files, label).expect("label");
        let of = |path: &Path| {
            let mut value = [0; 256];
            let length = rustix::fs::lgetxattr(path, "security.selinux", &mut value[..]).unwrap_or(0);
            String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned()
        };
        if of(&hosts).is_empty() {
            eprintln!("no labels on {}", folder.path().display());
            return;
        }
        assert_eq!((of(&hosts), of(&shm)), (label.to_owned(), label.to_owned()));
        assert_ne!(of(&shm.join("made")), label);
        // The host's shared memory is never asked about.
        let before = of(Path::new("/dev/shm"));
        label_pod(&SandboxFiles { shm: Some("/dev/shm".into()), ..SandboxFiles::default() }, label).expect("label");
        assert_eq!(of(Path::new("/dev/shm")), before);
    }

    #[test]
    fn large_files_are_not_read() {
        assert_eq!(read(Path::new("/dev/zero")).expect_err("endless").kind(), io::ErrorKind::FileTooLarge);
    }
}
