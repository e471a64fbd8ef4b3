//! Where networks, plugins and records are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of one CNI client. Two clients never share a `cache_dir`.
#[derive(Debug, Clone)]
pub struct CniConfig {
    /// Directory of the network configurations; it may come and go.
    pub conf_dir: PathBuf,
    /// Directories searched for plugin programs, first match wins.
    pub bin_dirs: Vec<PathBuf>,
    /// How many valid configurations to load, in the order of their file names; 0 loads all.
    pub max_conf_num: usize,
    /// Directory of this client's records; created with mode 0700.
    pub cache_dir: PathBuf,
    /// Runtime handlers with a configuration directory of their own, by name. Pods of any other handler, and those
    /// that name none, are attached to the networks of `conf_dir`, as containerd does it.
    pub handlers: BTreeMap<String, HandlerNetworks>,
    /// How long one plugin may run before its process group is killed.
    pub timeout: Duration,
}

impl Default for CniConfig {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into()],
            max_conf_num: 1,
            cache_dir: "/var/lib/cricket/cni".into(),
            handlers: BTreeMap::new(),
            timeout: Duration::from_secs(60),
        }
    }
}

/// The networks of one runtime handler.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HandlerNetworks {
    /// Directory of the network configurations; it may come and go.
    pub conf_dir: PathBuf,
    /// As [`CniConfig::max_conf_num`].
    pub max_conf_num: usize,
}
