//! containerd's shims: kata, gVisor's, those of wasm, `containerd-shim-runc-v2`.
//!
//! One shim for a pod, started with the pod's first container. Where the processes of its containers run is the shim's
//! matter: all that is done to them is asked of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cricket_cgroup::{CpuStats, MemoryStats, Stats};
use cricket_oci::SpecOptions;
use cricket_shim::{Bootstrap, Task, Usage};
use cricket_wire::launch_config::{LaunchConfig, SHIM_BOOTSTRAP, SHIM_OOM_MARKS, ShimAction, ShimConfig, ShimOptions};

use super::binary::{find, missing, pod_of};
use super::{
    ExecInput, Features, Handler, HandlerConfig, LaunchInput, POD_ROOT, RUNC_TYPE, SANDBOX_BUNDLE, Unavailable,
};

/// To connect to a shim for its figures, and again to get them: many are asked one after the other.
const USAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Shim {
    config: HandlerConfig,
    spec_options: SpecOptions,
    binary: String,
}

/// The binary of a runtime type: `io.containerd.NAME.v2` is `containerd-shim-NAME-v2`. The version is part of the name:
/// `io.containerd.runsc.v1` speaks the same protocol.
fn binary_name(runtime_type: &str) -> Option<String> {
    let (name, version) = runtime_type.strip_prefix("io.containerd.")?.rsplit_once('.')?;
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let number = version.strip_prefix('v').is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    (number && !name.is_empty() && name.bytes().all(fine)).then(|| format!("containerd-shim-{name}-{version}"))
}

impl Shim {
    /// `Err` says why an entry is no shim that could be run.
    pub(super) fn new(config: HandlerConfig, spec_options: SpecOptions) -> Result<Self, String> {
        let (kind, path) = (&config.runtime_type, &config.runtime_path);
        let binary = match path.as_str() {
            "" => binary_name(kind).ok_or_else(|| {
                format!(
                    "runtime_type {kind:?} is none of this cricket's, and no shim's (such as io.containerd.NAME.v2)"
                )
            })?,
            path if path.starts_with('/') => path.to_owned(),
            path => return Err(format!("runtime_path {path:?}: want an absolute path")),
        };
        Ok(Self { config, spec_options, binary })
    }

    fn options(&self, pod: &Path) -> ShimOptions {
        let options = &self.config.options;
        if self.config.runtime_type == RUNC_TYPE {
            // The shim makes a folder of its namespace's name there, which nobody removes: it goes with the pod.
            let root = match options.root.as_str() {
                "" => pod.join(POD_ROOT),
                root => PathBuf::from(root),
            };
            return ShimOptions::Runc { binary: options.binary_name.clone(), root };
        }
        if [&options.type_url, &options.config_path, &options.config_body].iter().all(|option| option.is_empty()) {
            return ShimOptions::None;
        }
        ShimOptions::Runtime {
            type_url: options.type_url.clone(),
            path: options.config_path.clone(),
            body: options.config_body.clone(),
        }
    }

    fn order(&self, id: &str, bundle: &Path, state: &Path, action: ShimAction) -> LaunchConfig {
        let pod = pod_of(bundle).unwrap_or(bundle);
        LaunchConfig::Shim(Box::new(ShimConfig {
            binary: self.binary.clone(),
            sandbox: pod.join(SANDBOX_BUNDLE),
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            address: state.join("shim.sock"),
            options: self.options(pod),
            action,
        }))
    }
}

fn stats(usage: &Usage) -> Stats {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let working_set_bytes = usage.memory.saturating_sub(usage.inactive_file);
    Stats {
        timestamp: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        cpu: Some(CpuStats { usage_core_nano_seconds: usage.cpu_nanoseconds, psi: None }),
        memory: Some(MemoryStats {
            working_set_bytes,
            available_bytes: usage.memory_limit.map(|limit| limit.saturating_sub(working_set_bytes)),
            usage_bytes: usage.memory,
            rss_bytes: usage.rss,
            page_faults: usage.page_faults,
            major_page_faults: usage.major_page_faults,
            psi: None,
        }),
        process_count: Some(usage.processes),
        ..Stats::default()
    }
}

impl Handler for Shim {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn features(&self) -> Features {
        // What is behind a shim cannot be asked before it runs.
        Features::default()
    }

    fn needs_sandbox_container(&self) -> bool {
        true
    }

    fn spec_options(&self) -> &SpecOptions {
        &self.spec_options
    }

    fn config(&self) -> &HandlerConfig {
        &self.config
    }

    fn state_dir(&self, state: &Path) -> PathBuf {
        match self.config.options.root.as_str() {
            "" => state.join("shim").join(&self.config.name),
            root => PathBuf::from(root),
        }
    }

    fn launch_config(&self, input: &LaunchInput<'_>) -> LaunchConfig {
        self.order(input.id, input.bundle, input.state, ShimAction::Run { terminal: input.terminal })
    }

    fn delete_config(&self, id: &str, bundle: &Path, state: &Path) -> Option<LaunchConfig> {
        Some(self.order(id, bundle, state, ShimAction::Delete))
    }

    fn signal_config(&self, id: &str, bundle: &Path, state: &Path, signal: i32) -> Option<LaunchConfig> {
        Some(self.order(id, bundle, state, ShimAction::Kill { signal }))
    }

    fn update_config(&self, id: &str, bundle: &Path, state: &Path, resources: &str) -> Option<LaunchConfig> {
        Some(self.order(id, bundle, state, ShimAction::Update { resources: resources.to_owned() }))
    }

    fn usage(&self, id: &str, bundle: &Path) -> Option<Stats> {
        let path = pod_of(bundle)?.join(SANDBOX_BUNDLE).join(SHIM_BOOTSTRAP);
        let asked = || -> Result<Usage, Box<dyn std::error::Error>> {
            let shim = Bootstrap::parse(&std::fs::read(&path)?)?;
            Ok(Task::connect_within(&shim, USAGE_TIMEOUT)?.usage(id, USAGE_TIMEOUT)?)
        };
        match asked() {
            Ok(usage) => Some(stats(&usage)),
            Err(error) => {
                tracing::debug!(container = id, %error, "no statistics of the shim's");
                None
            }
        }
    }

    fn was_out_of_memory(&self, id: &str, bundle: &Path) -> bool {
        let pod = pod_of(bundle).unwrap_or(bundle);
        pod.join(SANDBOX_BUNDLE).join(SHIM_OOM_MARKS).join(id).exists()
    }

    fn executes(&self) -> bool {
        true
    }

    fn exec_config(&self, id: &str, bundle: &Path, state: &Path, exec: &ExecInput) -> Option<LaunchConfig> {
        let action = ShimAction::Exec { process: exec.process.clone(), terminal: exec.terminal };
        Some(self.order(id, bundle, state, action))
    }

    fn check(&self) -> Result<(), Unavailable> {
        match find(&self.binary) {
            Some(_) => Ok(()),
            None => Err(missing(&self.config.name, &self.binary)),
        }
    }
}
