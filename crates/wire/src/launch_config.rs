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
    /// Make and start a container with libcontainer.
    Youki(Box<YoukiConfig>),
    /// Run an OCI runtime's command line.
    OciCli(Box<OciCliConfig>),
}

/// A container for libcontainer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YoukiConfig {
    /// The container's ID: one file name.
    pub id: String,
    /// The directory with `config.json`, private to the daemon. The helper makes its own files below it and removes
    /// them before it ends.
    pub bundle: PathBuf,
    /// Where libcontainer keeps its state while the helper runs; nothing is left there.
    pub root: PathBuf,
    /// `process.terminal` is set: a terminal is made, and its master comes with the report.
    #[serde(default)]
    pub terminal: bool,
    /// Use `MS_MOVE` and `chroot` instead of `pivot_root` (a root file system on an initramfs).
    #[serde(default)]
    pub no_pivot: bool,
    /// The container's control group, which the daemon has made and limited.
    pub cgroup: LaunchCgroup,
    /// The compiled profile. With it the helper ignores the one in `config.json`; without it libcontainer compiles
    /// that one.
    #[serde(default)]
    pub seccomp: Option<SeccompConfig>,
}

/// The container's control group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchCgroup {
    /// v1: the container's directory in each hierarchy. A mount of type `cgroup` in `config.json` becomes a bind
    /// mount of each. Empty on v2.
    #[serde(default)]
    pub v1_directories: Vec<CgroupDirectory>,
    /// v2: the container's directory, to which the helper attaches the device rules. `None` on v1.
    #[serde(default)]
    pub v2_directory: Option<PathBuf>,
    /// Files of hierarchies that libcontainer does not join; the helper writes `0` to each before it begins.
    #[serde(default)]
    pub tasks_files: Vec<PathBuf>,
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

/// What to do with an OCI runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OciAction {
    /// `create`, then the report, then `start`.
    Run {
        /// `process.terminal` is set: the runtime makes a terminal, and its master comes with the report.
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
            action: OciAction::Run { terminal: true },
        }));
        let json = serde_json::to_string(&config).expect("serialises");
        assert_eq!(serde_json::from_str::<LaunchConfig>(&json).expect("parses"), config);
        let youki = r#"{"kind":"youki","id":"a","bundle":"/b","root":"/r","cgroup":{}}"#;
        assert!(serde_json::from_str::<LaunchConfig>(youki).is_ok());
        let typo = r#"{"kind":"youki","id":"a","bundle":"/b","root":"/r","cgroup":{},"terminall":true}"#;
        assert!(serde_json::from_str::<LaunchConfig>(typo).is_err());
    }
}
