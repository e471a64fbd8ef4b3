//! The pod's namespaces, made on a thread that lives no longer than that.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use cricket_cri_api::v1;
use cricket_model::ErrorKind;
use cricket_process::namespaces::{Kinds, loopback_up, make as make_namespaces, set_hostname};
use cricket_process::{pin, sysctl};
use rustix::io::Errno;

use super::{host_ipc, host_network, namespace_options};
use crate::error::{Error, Result};

/// Namespaces that were made, by name.
pub(crate) struct Made(Vec<(String, Arc<OwnedFd>)>);

impl Made {
    /// What the monitor is to hold: all but the network namespace, which is pinned.
    pub(super) fn into_fds(self) -> Vec<(String, Arc<OwnedFd>)> {
        self.0
    }
}

/// Refuses what this version cannot make.
pub(super) fn supported(config: &v1::PodSandboxConfig) -> Result<()> {
    let userns = namespace_options(config).userns_options;
    let own = userns.is_some_and(|u| u.mode == i32::from(v1::NamespaceMode::Pod));
    if own {
        return Err(Error::new(
            ErrorKind::Unimplemented,
            "user namespaces (hostUsers: false) are not implemented by this version of cricket",
        ));
    }
    Ok(())
}

/// Makes the namespaces that the pod does not share with the host, sets them up, and pins the network's at `netns`.
pub(super) fn make(
    config: &v1::PodSandboxConfig,
    netns: Option<&Path>,
    hostname: &str,
    sysctls: &[(String, String)],
) -> Result<Made> {
    let mut kinds = Kinds::default();
    if netns.is_some() {
        // The UTS namespace goes with the network: host network means the host's name.
        kinds = kinds.with(Kinds::NET).with(Kinds::UTS);
    }
    if !host_ipc(config) {
        kinds = kinds.with(Kinds::IPC);
    }
    if kinds.is_empty() {
        return Ok(Made(Vec::new()));
    }
    if let Some(dir) = netns.and_then(Path::parent) {
        std::fs::create_dir_all(dir).map_err(|e| Error::internal(format_args!("make {}", dir.display()), &e))?;
    }
    let setup = || {
        if !host_network(config) {
            set_hostname(hostname)?;
            loopback_up()?;
        }
        Ok(sysctls.iter().try_for_each(|(name, value)| sysctl::set(name, value)))
    };
    let (fds, set) = make_namespaces(kinds, setup).map_err(|e| Error::internal("make the pod's namespaces", &e))?;
    set.map_err(|e| Error::caused(refusal(&e), "sysctls", &e))?;
    let mut made = Vec::new();
    for (kind, fd) in fds {
        match (kind, netns) {
            (Kinds::NET, Some(path)) => {
                pin::pin(&fd, path).map_err(|e| Error::internal("pin the pod's network namespace", &e))?;
            }
            (Kinds::IPC, _) => made.push(("ipc".to_owned(), Arc::new(fd))),
            _ => made.push(("uts".to_owned(), Arc::new(fd))),
        }
    }
    Ok(Made(made))
}

/// A parameter or a value that the kernel does not know is the pod's own fault.
fn refusal(error: &cricket_process::Error) -> ErrorKind {
    let of_pod = [Errno::INVAL, Errno::RANGE, Errno::NOENT, Errno::DOM].map(|errno| Some(errno.raw_os_error()));
    match of_pod.contains(&error.errno()) {
        true => ErrorKind::InvalidArgument,
        false => cricket_model::Kinded::kind(error),
    }
}
