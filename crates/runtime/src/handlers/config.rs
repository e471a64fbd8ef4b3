//! A handler's configuration, in containerd's words, and what is made of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_model::{ErrorKind, Kinded};
use cricket_oci::SpecOptions;
use cricket_oci::oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::oci_cli::OciCli;
use super::shim::Shim;
use super::youki::Youki;
use super::{Features, Handler, OCI_TYPE, RUNC_TYPE, YOUKI_TYPE};

/// Largest `base_runtime_spec`.
const MAX_BASE_SPEC: u64 = 1 << 20;

/// Who makes the node's control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// The runtime, in the file system.
    Cgroupfs,
    /// systemd, as scopes and slices.
    Systemd,
}

/// One entry of `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandlerConfig {
    /// NAME.
    pub name: String,
    /// Which kind of runtime: see the constants of this module. Empty means [`YOUKI_TYPE`].
    pub runtime_type: String,
    /// A shim's binary.
    pub runtime_path: String,
    /// Options of the kind.
    pub options: HandlerOptions,
    /// Globs of pod annotations that reach the runtime.
    pub pod_annotations: Vec<String>,
    /// Globs of container annotations that reach the runtime.
    pub container_annotations: Vec<String>,
    /// Privileged containers get the default devices only.
    pub privileged_without_host_devices: bool,
    /// With the former: they may use any device all the same.
    pub privileged_without_host_devices_all_devices_allowed: bool,
    /// A JSON file with the specification to start from.
    pub base_runtime_spec: String,
    /// The handler's own CNI directory; empty: the node's.
    pub cni_conf_dir: String,
    /// How many of its networks; 0: the node's setting.
    pub cni_max_conf_num: usize,
    /// Empty or `overlayfs`.
    pub snapshotter: String,
    /// Empty or `podsandbox`.
    pub sandboxer: String,
}

/// `options` of an entry, in containerd's spelling.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandlerOptions {
    /// The runtime's binary: a path, or a name in the usual system directories.
    #[serde(rename = "BinaryName")]
    pub binary_name: String,
    /// Whether systemd makes the control groups; `None`: as the node.
    #[serde(rename = "SystemdCgroup")]
    pub systemd_cgroup: Option<bool>,
    /// The runtime's state directory; empty: below the daemon's.
    #[serde(rename = "Root")]
    pub root: String,
    /// What a shim's configuration is.
    #[serde(rename = "TypeUrl")]
    pub type_url: String,
    /// A shim's configuration file.
    #[serde(rename = "ConfigPath")]
    pub config_path: String,
    /// A shim's configuration, where there is no file.
    #[serde(rename = "ConfigBody")]
    pub config_body: String,
}

/// Why the configured handlers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// One of a kind that this build does not run.
    #[error("runtime handler {name:?}: {reason}")]
    Unsupported {
        /// The handler.
        name: String,
        /// What is not supported.
        reason: String,
    },
    /// A node has one cgroup driver.
    #[error("runtime handler {name:?}: SystemdCgroup = {wants} does not fit the node's cgroup driver, {driver}")]
    Driver {
        /// The handler.
        name: String,
        /// What it is configured to.
        wants: bool,
        /// The node's.
        driver: &'static str,
    },
    /// A name that no RuntimeClass can have.
    #[error("runtime handler {0:?}: want a DNS label: lowercase letters, digits and dashes, 63 at most")]
    Name(String),
    /// The base specification cannot be used.
    #[error("runtime handler {name:?}: base_runtime_spec {path}: {reason}")]
    BaseSpec {
        /// The handler.
        name: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The default does not exist.
    #[error("the default runtime handler {name:?} is not configured; there are: {known}")]
    NoDefault {
        /// The name.
        name: String,
        /// Those that exist, sorted.
        known: String,
    },
}

impl Kinded for HandlerError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// The handler that an entry describes.
pub(super) fn build(
    config: &HandlerConfig,
    driver: CgroupDriver,
    able: &BTreeMap<PathBuf, Features>,
) -> Result<Arc<dyn Handler>, HandlerError> {
    check_name(&config.name)?;
    let unsupported = |reason: String| HandlerError::Unsupported { name: config.name.clone(), reason };
    if let Some(wants) = config.options.systemd_cgroup
        && wants != (driver == CgroupDriver::Systemd)
    {
        let driver = if driver == CgroupDriver::Systemd { "systemd" } else { "cgroupfs" };
        return Err(HandlerError::Driver { name: config.name.clone(), wants, driver });
    }
    if !["", "overlayfs"].contains(&config.snapshotter.as_str()) {
        return Err(unsupported(format!("snapshotter {:?}: there is overlayfs only", config.snapshotter)));
    }
    if !["", "podsandbox"].contains(&config.sandboxer.as_str()) {
        return Err(unsupported(format!("sandboxer {:?}: there is podsandbox only", config.sandboxer)));
    }
    match config.runtime_type.as_str() {
        "" | YOUKI_TYPE if config.runtime_path.is_empty() => {
            Ok(Arc::new(Youki::new(config.clone(), spec_options(config)?)))
        }
        RUNC_TYPE | OCI_TYPE if config.runtime_path.is_empty() => {
            let able = super::oci_cli::found(config).and_then(|binary| able.get(&binary).copied()).unwrap_or_default();
            Ok(Arc::new(OciCli::new(config.clone(), spec_options(config)?, able)))
        }
        "" | YOUKI_TYPE | OCI_TYPE => Err(unsupported(format!(
            "runtime_path {:?}: want a shim's runtime_type (io.containerd.NAME.v2) with it",
            config.runtime_path
        ))),
        _ => Ok(Arc::new(Shim::new(config.clone(), spec_options(config)?).map_err(unsupported)?)),
    }
}

/// RuntimeClass handlers are DNS labels (node.k8s.io/v1, `RuntimeClass.handler`).
fn check_name(name: &str) -> Result<(), HandlerError> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !name.starts_with('-') && !name.ends_with('-');
    if name.is_empty() || name.len() > 63 || !edges || !name.bytes().all(ok) {
        return Err(HandlerError::Name(name.chars().take(80).collect()));
    }
    Ok(())
}

fn spec_options(config: &HandlerConfig) -> Result<SpecOptions, HandlerError> {
    let base_spec = match config.base_runtime_spec.as_str() {
        "" => None,
        path => Some(base_spec(config, Path::new(path))?),
    };
    Ok(SpecOptions {
        base_spec,
        privileged_without_host_devices: config.privileged_without_host_devices,
        privileged_without_host_devices_all_devices_allowed: config.privileged_without_host_devices_all_devices_allowed,
        pod_annotations: config.pod_annotations.clone(),
        container_annotations: config.container_annotations.clone(),
        ..Default::default()
    })
}

fn base_spec(config: &HandlerConfig, path: &Path) -> Result<Spec, HandlerError> {
    let fail = |reason: String| HandlerError::BaseSpec { name: config.name.clone(), path: path.to_owned(), reason };
    let mut text = String::new();
    let file = File::open(path).map_err(|e| fail(e.to_string()))?;
    file.take(MAX_BASE_SPEC + 1).read_to_string(&mut text).map_err(|e| fail(e.to_string()))?;
    if text.len() as u64 > MAX_BASE_SPEC {
        return Err(fail(format!("larger than {MAX_BASE_SPEC} bytes")));
    }
    serde_json::from_str(&text).map_err(|e| fail(e.to_string()))
}
