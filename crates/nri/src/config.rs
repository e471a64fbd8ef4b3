//! What an operator sets: the table `[plugins."io.containerd.nri.v1.nri"]` of a containerd configuration.

use std::path::PathBuf;
use std::time::Duration;

/// The configuration; the defaults are containerd 2's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Neither plugins nor a socket.
    pub disable: bool,
    /// The socket that plugins connect to.
    pub socket_path: PathBuf,
    /// Plugins that are started with the runtime: executables called `NN-NAME`.
    pub plugin_path: PathBuf,
    /// Their configurations: `NN-NAME.conf` or `NAME.conf`.
    pub plugin_config_path: PathBuf,
    /// How long a plugin may take from its connection to its registration.
    pub plugin_registration_timeout: Duration,
    /// How long a plugin may take for a request.
    pub plugin_request_timeout: Duration,
    /// No socket; only plugins of the directory.
    pub disable_connections: bool,
    /// The validator that needs no plugin.
    pub validator: Validator,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            disable: false,
            socket_path: "/var/run/nri/nri.sock".into(),
            plugin_path: "/opt/nri/plugins".into(),
            plugin_config_path: "/etc/nri/conf.d".into(),
            plugin_registration_timeout: Duration::from_secs(5),
            plugin_request_timeout: Duration::from_secs(2),
            disable_connections: false,
            validator: Validator::default(),
        }
    }
}

/// The table `default_validator`: what no plugin may adjust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validator {
    /// Whether anything of this is checked.
    pub enable: bool,
    /// Refuse OCI hooks.
    pub reject_oci_hook_adjustment: bool,
    /// Refuse to replace the runtime's default seccomp profile.
    pub reject_runtime_default_seccomp_adjustment: bool,
    /// Refuse to give a seccomp profile to an unconfined container.
    pub reject_unconfined_seccomp_adjustment: bool,
    /// Refuse to replace a seccomp profile that the pod brought.
    pub reject_custom_seccomp_adjustment: bool,
    /// Refuse adjusted namespaces.
    pub reject_namespace_adjustment: bool,
    /// Refuse adjusted sysctls.
    pub reject_sysctl_adjustment: bool,
    /// Plugins without which no container is created.
    pub required_plugins: Vec<String>,
    /// The annotation by which a pod or container says that it does without required plugins; empty for none.
    pub tolerate_missing_plugins_annotation: String,
}
