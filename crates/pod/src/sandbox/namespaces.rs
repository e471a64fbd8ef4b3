//! The pod's namespaces, made on a thread that lives no longer than that; with a user namespace of its own by a child,
//! since no thread of a process with others can make or join one. It owns the pod's other namespaces.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use cricket_cri_api::v1;
use cricket_model::{ErrorKind, IdMaps};
use cricket_process::namespaces::{Kinds, inside_all, loopback_up, make as make_namespaces, set_hostname};
use cricket_process::{identity, pin, sysctl, userns};
use cricket_runtime::handlers::Handler;
use rustix::io::Errno;

use super::{USER, host_ipc, host_network, user_namespace};
use crate::error::{Error, Result};
use crate::shared::Shared;

/// Namespaces that were made, by name.
pub(crate) struct Made(Vec<(String, Arc<OwnedFd>)>);

impl Made {
    /// What the monitor is to hold: all but the network namespace, which is pinned.
    pub(super) fn into_fds(self) -> Vec<(String, Arc<OwnedFd>)> {
        self.0
    }
}

/// Refuses what the handler or the host cannot do.
pub(super) fn supported(shared: &Shared, handler: &dyn Handler, config: &v1::PodSandboxConfig) -> Result<()> {
    if user_namespace(config)?.is_none() {
        return Ok(());
    }
    if !handler.features().user_namespaces {
        let text = format_args!("runtime handler {:?} is not known to have user namespaces", handler.name());
        return Err(Error::new(ErrorKind::Unimplemented, text));
    }
    shared.user_namespaces.as_ref().copied().map_err(|reason| {
        Error::new(ErrorKind::FailedPrecondition, format_args!("this host has no pods with user namespaces: {reason}"))
    })
}

/// Makes the namespaces that the pod does not share with the host, sets them up, and pins the network's at `netns`.
pub(super) fn make(
    config: &v1::PodSandboxConfig,
    netns: Option<&Path>,
    hostname: &str,
    sysctls: &[(String, String)],
) -> Result<Made> {
    let user = user_namespace(config)?;
    let mut kinds = Kinds::default();
    if netns.is_some() {
        // The UTS namespace goes with the network: host network means the host's name.
        kinds = kinds.with(Kinds::NET).with(Kinds::UTS);
    }
    if !host_ipc(config) {
        kinds = kinds.with(Kinds::IPC);
    }
    if kinds.is_empty() && user.is_none() {
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
        Ok(set_sysctls(sysctls, user))
    };
    let mut made = Vec::new();
    let done = match user {
        None => make_namespaces(kinds, setup),
        Some(maps) => userns::make_with(&[maps.users], &[maps.groups], kinds).and_then(|(user, fds)| {
            made.push((USER.to_owned(), Arc::new(user)));
            let set = inside_all(fds.iter().map(|(_, fd)| fd), setup)?;
            Ok((fds, set))
        }),
    };
    let (fds, set) = done.map_err(|e| Error::internal("make the pod's namespaces", &e))?;
    set.map_err(|e| Error::caused(refusal(&e), "sysctls", &e))?;
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

/// Sets the pod's kernel parameters, on a thread in its namespaces.
fn set_sysctls(sysctls: &[(String, String)], user: Option<IdMaps>) -> cricket_process::Result<()> {
    let (network, others): (Vec<_>, Vec<_>) = sysctls.iter().partition(|(name, _)| name.starts_with("net."));
    network.iter().try_for_each(|(name, value)| sysctl::set(name, value))?;
    if let Some((root, _)) = user.and_then(|maps| maps.outside(0, 0)).filter(|_| !others.is_empty()) {
        // Those of an IPC namespace are its root's alone; no capability helps.
        identity::act_as(root)?;
    }
    others.iter().try_for_each(|(name, value)| sysctl::set(name, value))
}

/// A parameter or a value that the kernel does not know is the pod's own fault.
fn refusal(error: &cricket_process::Error) -> ErrorKind {
    let of_pod = [Errno::INVAL, Errno::RANGE, Errno::NOENT, Errno::DOM].map(|errno| Some(errno.raw_os_error()));
    match of_pod.contains(&error.errno()) {
        true => ErrorKind::InvalidArgument,
        false => cricket_model::Kinded::kind(error),
    }
}
