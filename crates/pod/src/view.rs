//! What List and Status answer from: an immutable picture of each pod, published by its driver after every transition.
//!
//! Readers never wait for a driver, a mount or a plugin; a picture is at most one transition old.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cricket_cgroup::{Cgroup, ExecFiles};
use cricket_model::{ContainerId, ErrorKind, SandboxId};
use cricket_oci::oci_spec::runtime::Spec;
use cricket_process::Pidfd;
use cricket_runtime::monitor::MonitorClient;

use crate::error::{Error, Result};
use crate::record::{ContainerRecord, ContainerState, PodRecord, SandboxState};
use crate::seccomp::Program;
use crate::stream::Stdio;

/// The kernel's handles of a running container, kept so that neither a reused PID nor a lost monitor matters.
#[derive(Debug)]
pub struct Live {
    /// Its init.
    pub pid: u32,
    /// The same, immune to reuse.
    pub pidfd: Pidfd,
    /// Duplicates of its stdio, for a monitor that replaces a lost one.
    pub stdio: Stdio,
    /// Its specification as launched: what execs are made of.
    pub spec: Arc<Spec>,
    /// The seccomp program of the specification, once an exec has asked for it.
    pub(crate) seccomp: OnceLock<Option<Arc<Program>>>,
    /// By what its execs join its cgroup, once there was one.
    pub(crate) cgroup: OnceLock<ExecFiles>,
}

impl Live {
    /// Handles of a container that runs.
    pub(crate) fn new(pid: u32, pidfd: Pidfd, stdio: Stdio, spec: Arc<Spec>) -> Self {
        Self { pid, pidfd, stdio, spec, seccomp: OnceLock::new(), cgroup: OnceLock::new() }
    }

    /// By what execs join `group`, the container's; kept open as long as it runs.
    pub(crate) fn exec_files(&self, group: &Cgroup) -> cricket_cgroup::Result<&ExecFiles> {
        if let Some(files) = self.cgroup.get() {
            return Ok(files);
        }
        let files = group.exec_files()?;
        Ok(self.cgroup.get_or_init(|| files))
    }
}

/// One pod at one moment.
#[derive(Clone)]
pub struct PodView {
    /// Its records.
    pub record: Arc<PodRecord>,
    /// Its monitor, while there is one.
    pub monitor: Option<MonitorClient>,
    /// Handles of its running containers.
    pub live: Arc<HashMap<ContainerId, Arc<Live>>>,
}

impl PodView {
    /// Whether lists show the pod.
    pub fn listed(&self) -> bool {
        matches!(self.record.sandbox.state, SandboxState::Ready | SandboxState::NotReady)
    }

    /// Its containers that lists show.
    pub fn containers(&self) -> impl Iterator<Item = &Arc<ContainerRecord>> {
        self.record.containers.iter().filter(|c| c.listed())
    }

    /// A container that lists show.
    pub fn container(&self, id: &ContainerId) -> Option<&Arc<ContainerRecord>> {
        self.containers().find(|c| &c.id == id)
    }

    /// The running container's record and handles, or why there are none.
    pub fn running(&self, id: &ContainerId) -> Result<(&Arc<ContainerRecord>, Arc<Live>)> {
        let record = self.container(id).ok_or_else(|| Error::not_found("container", id.as_str()))?;
        match (&record.state, self.live.get(id)) {
            (ContainerState::Running(_), Some(live)) => Ok((record, live.clone())),
            _ => Err(Error::precondition(format_args!("container {id} is not running"))),
        }
    }
}

/// Finds the one item whose ID starts with `prefix`.
///
/// # Errors
/// `NotFound` when there is none, `InvalidArgument` when the prefix is empty, no hexadecimal number, or ambiguous.
pub(crate) fn by_prefix<T, I: AsRef<str>>(what: &str, prefix: &str, items: impl Iterator<Item = (T, I)>) -> Result<T> {
    if prefix.is_empty() {
        return Err(Error::invalid(format_args!("{what} id is empty")));
    }
    if prefix.len() > 1024 || prefix.chars().any(char::is_control) {
        return Err(Error::invalid(format_args!(
            "{what} id {:?} is malformed",
            prefix.chars().take(80).collect::<String>()
        )));
    }
    let mut found: Option<(T, I)> = None;
    for (item, id) in items {
        let text = id.as_ref();
        if text == prefix {
            return Ok(item);
        }
        if text.starts_with(prefix) {
            if let Some((_, other)) = &found {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format_args!("{what} id {prefix:?} is ambiguous: {} and {}", &other.as_ref()[..13], &text[..13]),
                ));
            }
            found = Some((item, id));
        }
    }
    found.map(|(item, _)| item).ok_or_else(|| Error::not_found(what, prefix))
}

/// Whether an ID of a filter or request names this ID.
pub fn id_matches(id: &SandboxId, wanted: &str) -> bool {
    id.as_str().starts_with(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(prefix: &str) -> Result<u32> {
        let ids = [(1, "a".repeat(64)), (2, format!("ab{}", "0".repeat(62))), (3, "b".repeat(64))];
        by_prefix("container", prefix, ids.into_iter())
    }

    #[test]
    fn unambiguous_prefixes_only() {
        assert_eq!(find("b").expect("unique"), 3);
        assert_eq!(find("ab").expect("unique"), 2);
        assert_eq!(find(&"a".repeat(64)).expect("whole"), 1);
        let e = find("a").expect_err("ambiguous");
        assert!(e.to_string().contains("ambiguous"), "{e}");
        assert!(find("c").expect_err("none").to_string().contains("not found"));
        assert!(find("").is_err() && find("a\n").is_err());
    }
}
