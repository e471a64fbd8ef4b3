//! OCI runtimes by their command line: runc, crun, youki and others that take runc's arguments.

use std::path::{Path, PathBuf};

use cricket_oci::SpecOptions;
use cricket_wire::launch_config::{LaunchConfig, OciAction, OciCliConfig, SYSTEM_PATH};

use super::{Features, Handler, HandlerConfig, LaunchInput, Unavailable};

/// The binary of an entry that names none.
const DEFAULT_BINARY: &str = "runc";

/// See the module.
#[derive(Debug)]
pub(super) struct OciCli {
    config: HandlerConfig,
    spec_options: SpecOptions,
}

impl OciCli {
    pub(super) fn new(config: HandlerConfig, spec_options: SpecOptions) -> Self {
        Self { config, spec_options }
    }

    fn binary(&self) -> &str {
        match self.config.options.binary_name.as_str() {
            "" => DEFAULT_BINARY,
            name => name,
        }
    }

    fn order(&self, id: &str, bundle: &Path, state: &Path, action: OciAction) -> LaunchConfig {
        LaunchConfig::OciCli(Box::new(OciCliConfig {
            binary: self.binary().to_owned(),
            root: self.state_dir(state),
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

    /// What a binary can do is its own affair, which nobody has tested here: nothing is advertised.
    fn features(&self) -> Features {
        Features::default()
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
        self.order(input.id, input.bundle, input.state, OciAction::Run { terminal: input.terminal })
    }

    fn delete_config(&self, id: &str, bundle: &Path, state: &Path) -> Option<LaunchConfig> {
        Some(self.order(id, bundle, state, OciAction::Delete))
    }

    fn check(&self) -> Result<(), Unavailable> {
        let binary = self.binary();
        let found = if binary.contains('/') {
            Path::new(binary).is_file()
        } else {
            SYSTEM_PATH.iter().any(|dir| Path::new(dir).join(binary).is_file())
        };
        if found {
            return Ok(());
        }
        let reason = match binary.contains('/') {
            true => format!("{binary} is not there"),
            false => format!("{binary} is in none of {}", SYSTEM_PATH.join(", ")),
        };
        Err(Unavailable { handler: self.config.name.clone(), reason })
    }
}
