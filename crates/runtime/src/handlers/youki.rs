//! The default handler: the launch helper itself, over libcontainer's parts; no binary on the node.

use std::path::{Path, PathBuf};

use cricket_oci::SpecOptions;
use cricket_wire::launch_config::{CgroupDirectory, LaunchCgroup, LaunchConfig, PoststopConfig, YoukiConfig};

use super::{Features, Handler, HandlerConfig, LaunchInput, Unavailable};

/// See the module.
#[derive(Debug)]
pub(super) struct Youki {
    config: HandlerConfig,
    spec_options: SpecOptions,
}

impl Youki {
    pub(super) fn new(config: HandlerConfig, mut spec_options: SpecOptions) -> Self {
        spec_options.recursive_read_only = FEATURES.recursive_read_only_mounts;
        spec_options.mapped_mounts = FEATURES.user_namespaces;
        Self { config, spec_options }
    }
}

/// What the helper does where the kernel can.
const FEATURES: Features = Features { user_namespaces: true, recursive_read_only_mounts: true };

impl Handler for Youki {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn features(&self) -> Features {
        FEATURES
    }

    fn spec_options(&self) -> &SpecOptions {
        &self.spec_options
    }

    fn config(&self) -> &HandlerConfig {
        &self.config
    }

    fn state_dir(&self, state: &Path) -> PathBuf {
        state.join("youki")
    }

    fn launch_config(&self, input: &LaunchInput<'_>) -> LaunchConfig {
        let directories = input.cgroup.v1_directories().into_iter();
        LaunchConfig::Youki(Box::new(YoukiConfig {
            id: input.id.to_owned(),
            bundle: input.bundle.to_owned(),
            terminal: input.terminal,
            cgroup: LaunchCgroup {
                v1_directories: directories.map(|(name, directory)| CgroupDirectory { name, directory }).collect(),
                v2_directory: input.cgroup.v2_directory(),
                unified_directory: input.cgroup.unified_directory(),
            },
            seccomp: input.seccomp.clone(),
            user_namespace_fd: None,
            map_root: false,
        }))
    }

    /// The helper keeps nothing.
    fn delete_config(&self, _id: &str, _bundle: &Path, _state: &Path) -> Option<LaunchConfig> {
        None
    }

    fn poststop_config(&self, id: &str, bundle: &Path, _state: &Path) -> Option<LaunchConfig> {
        Some(LaunchConfig::Poststop(Box::new(PoststopConfig { id: id.to_owned(), bundle: bundle.to_owned() })))
    }

    fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}
