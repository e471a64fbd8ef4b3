//! What `cricket-launch` is told to do: the JSON in descriptor [`CONFIG_FD`](crate::helper::CONFIG_FD).
//!
//! The daemon that writes it is the one whose helper reads it, so unknown fields are an error, not a newer version.
//! Fields that end in `_fd` are descriptors of the helper, from [`FIRST_EXTRA_FD`](crate::helper::FIRST_EXTRA_FD) on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::exec_config::SeccompConfig;

/// Where the binary of an OCI runtime is looked for when its name has no slash.
pub const SYSTEM_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// One order to `cricket-launch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LaunchConfig {
    /// Make and start a container of this kernel's namespaces.
    Youki(Box<YoukiConfig>),
    /// Run an OCI runtime's command line.
    OciCli(Box<OciCliConfig>),
    /// Have a containerd shim do it.
    Shim(Box<ShimConfig>),
    /// Run the poststop hooks of a container that has ended; reports nothing but failures.
    Poststop(Box<PoststopConfig>),
}

/// A container that the helper makes itself.
///
/// What `config.json` says is done or refused. User namespaces: a `linux.namespaces` entry `user` with a path is
/// joined, one without is made from `linux.uidMappings` and `gidMappings`; these are needed in both cases, for the
/// owner of stdio. ID-mapped mounts: `uidMappings` and `gidMappings` of a mount, or the option `idmap` (`ridmap`: with
/// all mounts below), which takes the container's user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YoukiConfig {
    /// The container's ID: one file name.
    pub id: String,
    /// The directory with `config.json`, private to the daemon.
    pub bundle: PathBuf,
    /// `process.terminal` is set: a terminal is made, and its master comes with the report.
    #[serde(default)]
    pub terminal: bool,
    /// The container's control group, which the daemon has made and limited.
    pub cgroup: LaunchCgroup,
    /// The compiled profile, used in place of the one in `config.json`, which is refused without it.
    #[serde(default)]
    pub seccomp: Option<SeccompConfig>,
    /// The pod's user namespace as a descriptor, in place of one in `config.json`.
    #[serde(default)]
    pub user_namespace_fd: Option<i32>,
    /// The root file system's IDs are mapped by the container's user namespace. Its file system has to support that
    /// (overlayfs does not: there the layers are mapped before it is mounted).
    #[serde(default)]
    pub map_root: bool,
}

/// The container's control group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchCgroup {
    /// v1: the container's directory in each hierarchy: joined, given the device rules, and shown where `config.json` has
    /// a mount of type `cgroup`. Empty on v2.
    #[serde(default)]
    pub v1_directories: Vec<CgroupDirectory>,
    /// v2: the container's directory: joined, given the device rules. `None` on v1.
    #[serde(default)]
    pub v2_directory: Option<PathBuf>,
    /// v1: the container's directory in the unified hierarchy beside, if there is one; joined only.
    #[serde(default)]
    pub unified_directory: Option<PathBuf>,
}

/// A v1 hierarchy's directory of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupDirectory {
    /// Its name below `/sys/fs/cgroup` in the container (`memory`, `cpu,cpuacct`, `systemd`).
    pub name: String,
    /// The directory on the host.
    pub directory: PathBuf,
}

/// A command of an OCI runtime's binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OciCliConfig {
    /// The binary; a name without a slash is looked up in the usual system directories.
    pub binary: String,
    /// `--root`: where the runtime keeps its state.
    pub root: PathBuf,
    /// The container's ID.
    pub id: String,
    /// The directory with `config.json`; the runtime's log and pid file are made in it.
    pub bundle: PathBuf,
    /// `--systemd-cgroup`.
    #[serde(default)]
    pub systemd_cgroup: bool,
    /// What to do.
    pub action: OciAction,
}

/// A container whose poststop hooks are to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoststopConfig {
    /// The container's ID.
    pub id: String,
    /// The directory with `config.json`, which has the hooks.
    pub bundle: PathBuf,
}

/// What to do with an OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OciAction {
    /// `create`, then the report, then `start`.
    Run {
        /// `process.terminal` is set: the runtime makes a terminal, and its master comes with the report.
        terminal: bool,
        /// The runtime's init is no process of this container alone. What is reported in its place waits for the
        /// container with the runtime's `wait`, and ends as the container does.
        #[serde(default)]
        keeper: bool,
    },
    /// `exec`; the runtime's own process is reported in place of the command, and ends as that does.
    Exec {
        /// The process (runtime-spec, config.md, "Process"), as JSON.
        process: String,
        /// Its `terminal` is set: the master comes with the report.
        terminal: bool,
    },
    /// `kill ID SIGNAL`; for runtimes whose containers cannot be signalled by their init's PID. Reports [`NO_PROCESS`](crate::helper::NO_PROCESS).
    Kill {
        /// Number of the signal.
        signal: i32,
    },
    /// `delete --force ID`; reports [`NO_PROCESS`](crate::helper::NO_PROCESS). A container that the runtime does not know counts as deleted.
    Delete,
}

/// Where the pod's shim listens, in [`ShimConfig::sandbox`]; empty: it was about to be started.
pub const SHIM_BOOTSTRAP: &str = "shim.json";

/// Where containers are marked, by their IDs, of which their shim said that memory was short: in [`ShimConfig::sandbox`].
pub const SHIM_OOM_MARKS: &str = "oom";

/// A call of a containerd shim, or a command of its binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShimConfig {
    /// The shim's binary; a name without a slash is looked up in the usual system directories.
    pub binary: String,
    /// The bundle of the pod's first container: the pod's shim is started with it, and where it listens is kept there.
    pub sandbox: PathBuf,
    /// The container's ID.
    pub id: String,
    /// The directory with `config.json`.
    pub bundle: PathBuf,
    /// What stands for the runtime's own address: shims make names of it.
    pub address: PathBuf,
    /// The runtime's options.
    #[serde(default)]
    pub options: ShimOptions,
    /// What to do.
    pub action: ShimAction,
}

/// A runtime's options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShimOptions {
    /// None are sent.
    #[default]
    None,
    /// `containerd.runc.v1.Options`.
    Runc {
        /// The OCI runtime; empty: the shim's default.
        binary: String,
        /// The OCI runtime's state directory.
        root: PathBuf,
    },
    /// `runtimeoptions.v1.Options`.
    Runtime {
        /// What the configuration is.
        type_url: String,
        /// The configuration file.
        path: String,
        /// The configuration, where there is no file.
        body: String,
    },
}

/// What to do with a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShimAction {
    /// `start` of the binary for the pod's first container; Create, then the report of what waits for the container in its
    /// place and ends as it does, then Start.
    Run {
        /// `process.terminal` is set: the master comes with the report.
        terminal: bool,
    },
    /// Exec and Start; reported is what waits for the command in its place and ends as it does. Where that is killed, the
    /// command is.
    Exec {
        /// The process (runtime-spec, config.md, "Process"), as JSON.
        process: String,
        /// Its `terminal` is set: the master comes with the report.
        terminal: bool,
    },
    /// Kill; reports [`NO_PROCESS`](crate::helper::NO_PROCESS).
    Kill {
        /// Number of the signal.
        signal: i32,
    },
    /// Update; reports [`NO_PROCESS`](crate::helper::NO_PROCESS).
    Update {
        /// The limits (runtime-spec, config-linux.md, "Control groups"), as JSON.
        resources: String,
    },
    /// Kill with SIGKILL, Delete, and Shutdown where it is the pod's first container; `delete` of the binary where the shim
    /// does not answer. Reports [`NO_PROCESS`](crate::helper::NO_PROCESS). What the shim does not know counts as deleted.
    Delete,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_what_it_does_not_know() {
        let config = LaunchConfig::OciCli(Box::new(OciCliConfig {
            binary: "runc".into(),
            root: "/run/x".into(),
            id: "a".into(),
            bundle: "/b".into(),
            systemd_cgroup: false,
            action: OciAction::Run { terminal: true, keeper: false },
        }));
        let json = serde_json::to_string(&config).expect("serialises");
        assert_eq!(serde_json::from_str::<LaunchConfig>(&json).expect("parses"), config);
        let youki = r#"{"kind":"youki","id":"a","bundle":"/b","cgroup":{}}"#;
        assert!(serde_json::from_str::<LaunchConfig>(youki).is_ok());
        let typo = r#"{"kind":"youki","id":"a","bundle":"/b","cgroup":{},"terminall":true}"#;
        assert!(serde_json::from_str::<LaunchConfig>(typo).is_err());
    }
}
