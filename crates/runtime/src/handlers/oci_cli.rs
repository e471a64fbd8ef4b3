//! OCI runtimes by their command line: runc, crun, youki, runsc and others that take runc's arguments.
//!
//! gVisor's runsc, known by its name, runs the processes of all of a pod's containers in one process with a kernel of its
//! own: that one is the pod's first container, and nothing of the others can be reached through this host's PIDs.

use std::path::{Path, PathBuf};

use cricket_oci::SpecOptions;
use cricket_wire::launch_config::{LaunchConfig, OciAction, OciCliConfig};

use super::binary::{missing, pod_of};
use super::{ExecInput, Features, Handler, HandlerConfig, LaunchInput, OCI_TYPE, POD_ROOT, RUNC_TYPE, Unavailable};

/// The binary of an entry that names none.
const DEFAULT_BINARY: &str = "runc";

/// How binaries of gVisor's are called, perhaps with something behind (`runsc-kvm`).
const GVISOR: &str = "runsc";

/// See the module.
#[derive(Debug)]
pub(super) struct OciCli {
    config: HandlerConfig,
    spec_options: SpecOptions,
    features: Features,
}

/// The binary of an entry of this kind, if it is there.
pub(super) fn found(config: &HandlerConfig) -> Option<PathBuf> {
    if ![RUNC_TYPE, OCI_TYPE].contains(&config.runtime_type.as_str()) || !config.runtime_path.is_empty() {
        return None;
    }
    super::binary::find(binary(config))
}

fn binary(config: &HandlerConfig) -> &str {
    match config.options.binary_name.as_str() {
        "" => DEFAULT_BINARY,
        name => name,
    }
}

impl OciCli {
    /// `features` are what the binary says of itself.
    pub(super) fn new(config: HandlerConfig, mut spec_options: SpecOptions, features: Features) -> Self {
        spec_options.recursive_read_only = features.recursive_read_only_mounts;
        spec_options.mapped_mounts = features.user_namespaces;
        Self { config, spec_options, features }
    }

    fn is_gvisor(&self) -> bool {
        let name = Path::new(binary(&self.config)).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(GVISOR).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    }

    /// gVisor keeps a mount there besides: each pod has a directory of its own, to go with it.
    fn root(&self, bundle: &Path, state: &Path) -> PathBuf {
        match pod_of(bundle) {
            Some(pod) if self.is_gvisor() && self.config.options.root.is_empty() => pod.join(POD_ROOT),
            _ => self.state_dir(state),
        }
    }

    fn order(&self, id: &str, bundle: &Path, state: &Path, action: OciAction) -> LaunchConfig {
        LaunchConfig::OciCli(Box::new(OciCliConfig {
            binary: binary(&self.config).to_owned(),
            root: self.root(bundle, state),
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            // A scope is made before, and the runtime takes the cgroup that is there.
            systemd_cgroup: false,
            action,
        }))
    }
}

impl Handler for OciCli {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn features(&self) -> Features {
        self.features
    }

    fn needs_sandbox_container(&self) -> bool {
        self.is_gvisor()
    }

    fn spec_options(&self) -> &SpecOptions {
        &self.spec_options
    }

    fn config(&self) -> &HandlerConfig {
        &self.config
    }

    fn state_dir(&self, state: &Path) -> PathBuf {
        match self.config.options.root.as_str() {
            "" => state.join("oci").join(&self.config.name),
            root => PathBuf::from(root),
        }
    }

    fn launch_config(&self, input: &LaunchInput<'_>) -> LaunchConfig {
        let keeper = self.is_gvisor() && !input.sandbox;
        self.order(input.id, input.bundle, input.state, OciAction::Run { terminal: input.terminal, keeper })
    }

    fn delete_config(&self, id: &str, bundle: &Path, state: &Path) -> Option<LaunchConfig> {
        Some(self.order(id, bundle, state, OciAction::Delete))
    }

    fn signal_config(&self, id: &str, bundle: &Path, state: &Path, signal: i32) -> Option<LaunchConfig> {
        self.is_gvisor().then(|| self.order(id, bundle, state, OciAction::Kill { signal }))
    }

    fn executes(&self) -> bool {
        self.is_gvisor()
    }

    fn exec_config(&self, id: &str, bundle: &Path, state: &Path, exec: &ExecInput) -> Option<LaunchConfig> {
        let action = || OciAction::Exec { process: exec.process.clone(), terminal: exec.terminal };
        self.is_gvisor().then(|| self.order(id, bundle, state, action()))
    }

    fn check(&self) -> Result<(), Unavailable> {
        match found(&self.config) {
            Some(_) => Ok(()),
            None => Err(missing(&self.config.name, binary(&self.config))),
        }
    }
}
