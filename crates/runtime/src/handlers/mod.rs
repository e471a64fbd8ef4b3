//! The handler registry: which ways of running a container this node has, by the names that RuntimeClasses use.
//!
//! A handler turns a bundle into the order for the launch helper; everything else about a pod is the same for all.
//! A configured handler that this build cannot run is kept with the reason: it is never advertised, and a pod that
//! asks for it is refused with that reason. It does not stop the daemon, unless it is the default.

mod binary;
mod config;
mod features;
mod oci_cli;
mod shim;
mod youki;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_cgroup::{Cgroup, Stats};
use cricket_model::{ErrorKind, Kinded};
use cricket_oci::SpecOptions;
use cricket_wire::exec_config::SeccompConfig;
use cricket_wire::launch_config::{LaunchConfig, SYSTEM_PATH};

pub use config::{CgroupDriver, HandlerConfig, HandlerError, HandlerOptions};

/// The handler of a node without a handler in its configuration.
pub const DEFAULT_NAME: &str = "youki";
/// `runtime_type` of the handler that needs no binary on the node.
pub const YOUKI_TYPE: &str = "io.cricket.youki.v1";
/// `runtime_type` of cricket's handler for OCI binaries.
pub const OCI_TYPE: &str = "io.cricket.oci.v1";
/// containerd's `runtime_type` of the same.
pub const RUNC_TYPE: &str = "io.containerd.runc.v2";

/// The bundle of a pod's first container in the pod's folder; those of others are `c/ID`.
pub const SANDBOX_BUNDLE: &str = "sandbox";
/// Where in the pod's folder a runtime keeps what goes with the pod.
pub const POD_ROOT: &str = "runtime";

/// What a handler can do, as `Status.runtime_handlers` says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Pods with `hostUsers: false`.
    pub user_namespaces: bool,
    /// Mounts that are read-only with all below them.
    pub recursive_read_only_mounts: bool,
}

/// A command to be executed by a runtime itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecInput {
    /// The process (runtime-spec, config.md, "Process"), as JSON.
    pub process: String,
    /// Its `terminal` is set.
    pub terminal: bool,
}

/// What a launch is made of.
#[derive(Debug)]
pub struct LaunchInput<'a> {
    /// The container's ID.
    pub id: &'a str,
    /// The directory with its `config.json`.
    pub bundle: &'a Path,
    /// The daemon's `--state` directory: runtimes keep their state below it.
    pub state: &'a Path,
    /// `process.terminal` of the specification.
    pub terminal: bool,
    /// The container's control group, made and limited.
    pub cgroup: &'a Cgroup,
    /// The compiled seccomp profile, which goes along as a descriptor.
    pub seccomp: Option<SeccompConfig>,
    /// It is the pod's first container, see [`Handler::needs_sandbox_container`].
    pub sandbox: bool,
}

/// One way of running containers.
pub trait Handler: Send + Sync + fmt::Debug {
    /// The name that RuntimeClasses use.
    fn name(&self) -> &str;

    /// What it can do on this host.
    fn features(&self) -> Features;

    /// Whether the pod itself has to be a container of the runtime: its first one, with the pod's ID, annotated as
    /// sandbox, in the pod's network namespace. cricket's own init runs in it.
    fn needs_sandbox_container(&self) -> bool {
        false
    }

    /// How specifications are made for it. What the configuration says for all handlers is not in it.
    fn spec_options(&self) -> &SpecOptions;

    /// The handler's configuration.
    fn config(&self) -> &HandlerConfig;

    /// Where the runtime keeps what it knows of its containers, given the daemon's state directory; made at start.
    fn state_dir(&self, state: &Path) -> PathBuf;

    /// The order that makes and starts a container.
    fn launch_config(&self, input: &LaunchInput<'_>) -> LaunchConfig;

    /// The order that removes what the runtime keeps of a container that has ended; `None`: it keeps nothing.
    fn delete_config(&self, id: &str, bundle: &Path, state: &Path) -> Option<LaunchConfig>;

    /// The order that runs the poststop hooks of a container that was launched and has ended; `None`: they are run by
    /// themselves. OCI runtimes run theirs when they delete a container.
    fn poststop_config(&self, id: &str, bundle: &Path, state: &Path) -> Option<LaunchConfig> {
        self.delete_config(id, bundle, state)
    }

    /// The order that signals a container's init; `None`: it is a process of this kernel and signalled as such.
    fn signal_config(&self, _id: &str, _bundle: &Path, _state: &Path, _signal: i32) -> Option<LaunchConfig> {
        None
    }

    /// The order that changes the limits of a running container, given as JSON (runtime-spec, config-linux.md, "Control
    /// groups"); `None`: those of its control group are all there are.
    fn update_config(&self, _id: &str, _bundle: &Path, _state: &Path, _resources: &str) -> Option<LaunchConfig> {
        None
    }

    /// What a running container has used, as the runtime counts it: asked where the container's own control group has
    /// nothing in it. `None`: nobody knows. Blocks, at most for two seconds.
    fn usage(&self, _id: &str, _bundle: &Path) -> Option<Stats> {
        None
    }

    /// Whether the runtime has said that memory was short in a container that has ended. The container's own control group,
    /// which is asked besides, may know nothing of it: that of a virtual machine is elsewhere.
    fn was_out_of_memory(&self, _id: &str, _bundle: &Path) -> bool {
        false
    }

    /// Whether it executes commands in containers itself; else cricket's own helper joins their namespaces.
    fn executes(&self) -> bool {
        false
    }

    /// The order that executes a command in a running container; `None` unless it [executes](Self::executes) them itself.
    fn exec_config(&self, _id: &str, _bundle: &Path, _state: &Path, _exec: &ExecInput) -> Option<LaunchConfig> {
        None
    }

    /// Whether it can run now; the error names what is missing. Asked when a pod starts and by `doctor`.
    fn check(&self) -> Result<(), Unavailable>;
}

/// A handler's program is not on the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("runtime handler {handler:?}: {reason}")]
pub struct Unavailable {
    /// The handler.
    pub handler: String,
    /// What is missing, with its path.
    pub reason: String,
}

impl Kinded for Unavailable {
    fn kind(&self) -> ErrorKind {
        ErrorKind::FailedPrecondition
    }
}

/// A pod asked for a handler that this node does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownHandler {
    /// No handler has that name.
    #[error("unknown runtime handler {name:?}; this node has: {known}")]
    Unknown {
        /// The name that was asked for, cut.
        name: String,
        /// The names that exist, sorted.
        known: String,
    },
    /// It is configured, but this build cannot run it.
    #[error("runtime handler {name:?} cannot be used: {reason}; this node has: {known}")]
    Refused {
        /// The name that was asked for.
        name: String,
        /// Why not.
        reason: String,
        /// The names that exist, sorted.
        known: String,
    },
}

impl Kinded for UnknownHandler {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::NotFound,
            Self::Refused { .. } => ErrorKind::Unimplemented,
        }
    }
}

/// The node's handlers.
#[derive(Debug, Clone)]
pub struct Handlers {
    default: String,
    known: BTreeMap<String, Arc<dyn Handler>>,
    refused: BTreeMap<String, String>,
}

impl Handlers {
    /// The handlers of a configuration. `default` is the name that an empty one means; a node without any handler
    /// has [`DEFAULT_NAME`] alone. Fails when a handler wants another cgroup driver than the node's, when a
    /// `base_runtime_spec` cannot be read, and when the default cannot be used.
    pub fn from_config(list: &[HandlerConfig], default: &str, driver: CgroupDriver) -> Result<Self, HandlerError> {
        let builtin =
            HandlerConfig { name: DEFAULT_NAME.into(), runtime_type: YOUKI_TYPE.into(), ..Default::default() };
        let (mut known, mut refused) = (BTreeMap::new(), BTreeMap::new());
        let able = features::ask(list.iter().filter_map(oci_cli::found));
        // The one that needs nothing is there under its own name, unless the name is taken.
        let has_builtin = list.iter().any(|c| c.name == DEFAULT_NAME);
        for config in list.iter().chain((!has_builtin).then_some(&builtin)) {
            match config::build(config, driver, &able) {
                Ok(handler) => drop(known.insert(config.name.clone(), handler)),
                Err(HandlerError::Unsupported { reason, .. }) if config.name != default => {
                    refused.insert(config.name.clone(), reason);
                }
                Err(e) => return Err(e),
            }
        }
        let default = if default.is_empty() { DEFAULT_NAME } else { default };
        if !known.contains_key(default) {
            let names = names(&known);
            return Err(HandlerError::NoDefault { name: default.to_owned(), known: names });
        }
        Ok(Self { default: default.to_owned(), known, refused })
    }

    /// The handler of that name; the default for an empty one.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Handler>, UnknownHandler> {
        let key = if name.is_empty() { self.default.as_str() } else { name };
        self.known.get(key).ok_or_else(|| {
            let name: String = name.chars().take(200).collect();
            let known = names(&self.known);
            match self.refused.get(key).cloned() {
                Some(reason) => UnknownHandler::Refused { name, reason, known },
                None => UnknownHandler::Unknown { name, known },
            }
        })
    }

    /// The name that an empty one means.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// For `Status.runtime_handlers`: the default under the empty name, then every handler under its own, sorted.
    pub fn statuses(&self) -> Vec<(&str, Features)> {
        let default = self.known.get(&self.default).map(|h| ("", h.features()));
        default.into_iter().chain(self.known.iter().map(|(name, h)| (name.as_str(), h.features()))).collect()
    }

    /// Every handler, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Handler>> {
        self.known.values()
    }

    /// Configured handlers that this build cannot run, with the reasons: to be said once at start.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &str)> {
        self.refused.iter().map(|(name, reason)| (name.as_str(), reason.as_str()))
    }
}

/// Where hooks and the runtimes' own helpers look programs up.
fn system_path() -> String {
    SYSTEM_PATH.join(":")
}

fn names(known: &BTreeMap<String, Arc<dyn Handler>>) -> String {
    known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
