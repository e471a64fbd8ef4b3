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
use cricket_oci::selinux::{Categories, Contexts, Label, SelinuxLabels, asks_for_label};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sandbox::sandbox_files;
use crate::shared::Shared;

pub(crate) use relabel::relabel;

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
        let context = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        let options = context.and_then(|c| c.selinux_options.as_ref());
        let (Some(enabled), Some(labels)) = (&self.0, labels) else { return nothing(options) };
        if !asks_for_label(options) {
            return Ok(Some(labels.clone()));
        }
        let own = enabled.labels(options, &labels.process.level)?;
        enabled.with(|categories| categories.reserve(pod.as_str(), &own.process.level));
        Ok(Some(own))
    }

    /// A pod from before a restart has these labels.
    pub(crate) fn reserve(&self, pod: &SandboxId, labels: Option<&SelinuxLabels>) {
        if let (Some(enabled), Some(labels)) = (&self.0, labels) {
            enabled.with(|categories| categories.reserve(pod.as_str(), &labels.process.level));
        }
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

/// What cannot be enforced is refused.
fn nothing(options: Option<&v1::SeLinuxOption>) -> Result<Option<SelinuxLabels>> {
    match asks_for_label(options) {
        true => {
            let text = "linux.security_context.selinux_options: SELinux is not enabled on this host, or enable_selinux is not set";
            Err(Error::precondition(text))
        }
        false => Ok(None),
    }
}

/// What is to have the label of a container's files: volumes that say so, what belongs to the container alone, and what
/// the pod gives all its containers.
pub(crate) fn files_of(
    shared: &Shared,
    sandbox: &crate::record::SandboxRecord,
    container: &crate::record::ContainerRecord,
) -> Vec<PathBuf> {
    let asked = container.config.0.mounts.iter().filter(|m| m.selinux_relabel && !m.host_path.is_empty());
    let files = sandbox_files(&shared.pod_dir(&sandbox.id), &sandbox.config.0);
    let of_pod = [files.resolv_conf, files.hostname, files.hosts, files.shm].into_iter().flatten();
    asked
        .map(|mount| PathBuf::from(&mount.host_path))
        .chain(container.volumes.iter().cloned())
        // The host's is the host's.
        .chain(of_pod.filter(|path| path != Path::new("/dev/shm")))
        .collect()
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
    }

    #[test]
    fn large_files_are_not_read() {
        assert_eq!(read(Path::new("/dev/zero")).expect_err("endless").kind(), io::ErrorKind::FileTooLarge);
    }
}
