//! What `cricket-exec` is told to do: the JSON in descriptor [`CONFIG_FD`](crate::helper::CONFIG_FD).
//!
//! The daemon that writes it is the one whose helper reads it, so unknown fields are an error, not a newer version.
//! Numbers in fields that end in `_fd` or `_fds` are descriptors of the helper, from
//! [`FIRST_EXTRA_FD`](crate::helper::FIRST_EXTRA_FD) on.

use serde::{Deserialize, Serialize};

/// One order to `cricket-exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ExecConfig {
    /// Execute a command in a running container.
    Command(Box<CommandConfig>),
    /// Make the init of a pod whose containers share one PID namespace.
    PodInit(PodInitConfig),
}

/// A command to execute in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// Pidfd of the container's init: its namespaces and root are joined.
    pub target_fd: i32,
    /// `CLONE_NEW*` bits of the namespaces of it that are not the host's; `None`: the helper compares them.
    #[serde(default)]
    pub namespaces: Option<i32>,
    /// Control groups to join.
    pub cgroup: CgroupJoin,
    /// Program and arguments; the first is looked up in `PATH` of `env` when it has no slash. Not empty.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value` each.
    pub env: Vec<String>,
    /// Working directory, absolute, in the container. It has to exist.
    pub cwd: String,
    /// User ID in the container's user namespace.
    pub uid: u32,
    /// Group ID in the container's user namespace.
    pub gid: u32,
    /// Supplementary group IDs.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Capabilities (`CAP_CHOWN` …) for the bounding, permitted and effective sets; whatever the container's init
    /// cannot have any more is left out.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Those of `capabilities` for the inheritable and ambient sets as well; others are left out (capabilities(7)).
    #[serde(default)]
    pub ambient: Vec<String>,
    /// Whether `no_new_privs` is set.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// The container's compiled seccomp program.
    #[serde(default)]
    pub seccomp: Option<SeccompConfig>,
    /// AppArmor profile to enter at execve.
    #[serde(default)]
    pub apparmor_profile: Option<String>,
    /// SELinux label to enter at execve, and of the session keyring.
    #[serde(default)]
    pub selinux_label: Option<String>,
    /// Resource limits; clamped to what the helper may set.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// `oom_score_adj` of the process, -1000 to 1000; clamped to what the helper may set. `None`: as the target's.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// A terminal of this size is made in the container's devpts; its master comes with the report, and
    /// descriptors 0–2 of the helper are not used.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
}

/// The init of a pod with a shared PID namespace: it makes that namespace, reaps, and ends on `SIGTERM`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodInitConfig {
    /// The pod's user namespace, which will own the PID namespace; `None`: the host's.
    #[serde(default)]
    pub user_fd: Option<i32>,
    /// The pod's other namespaces to join (network, IPC, UTS), in any order.
    #[serde(default)]
    pub namespace_fds: Vec<i32>,
    /// Control groups to join.
    pub cgroup: CgroupJoin,
    /// `oom_score_adj`, clamped as for a command. `None`: it stays the helper's.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
}

/// How the new process gets into its control groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupJoin {
    /// It stays in the helper's.
    Stay,
    /// v1: the `tasks` files of every hierarchy, open for writing. The new process writes `0` to each.
    TasksFds(Vec<i32>),
    /// v2: the directory, for `CLONE_INTO_CGROUP`. When it cannot hold processes (the container has enabled
    /// controllers below it: `EBUSY`), a command goes into its target's own group.
    DirectoryFd(i32),
    /// v1 with a unified hierarchy beside: `tasks` files of the v1 hierarchies as in `TasksFds`, and the unified
    /// directory as in `DirectoryFd`. (Writing to its `cgroup.procs` instead takes an RCU grace period, some 10 ms.)
    Hybrid {
        /// The `tasks` files.
        tasks_fds: Vec<i32>,
        /// The directory.
        directory_fd: i32,
    },
}

/// A compiled seccomp program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompConfig {
    /// The program: `struct sock_filter` entries in the machine's byte order, read from offset 0.
    pub program_fd: i32,
    /// `SECCOMP_FILTER_FLAG_*` bits for seccomp(2).
    #[serde(default)]
    pub flags: u32,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` …
    pub name: String,
    /// Soft limit; `u64::MAX` is no limit.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is no limit.
    pub hard: u64,
}

/// Size of a terminal, in characters; zero by zero leaves it unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}
