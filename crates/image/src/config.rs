//! Settings of the image store.

use std::path::PathBuf;
use std::time::Duration;

use crate::VerifierConfig;
use crate::registry::{Platform, RegistryConfig};

/// How an [`crate::ImageStore`] is set up.
#[derive(Debug, Clone)]
pub struct ImageStoreConfig {
    /// The daemon's root directory; everything here lies in `images` below it.
    pub root: PathBuf,
    /// The daemon's state directory (tmpfs): the kernel's boot ends what is below it.
    pub state: PathBuf,
    /// The registry client's settings.
    pub registry: RegistryConfig,
    /// How many layers are fetched and unpacked at once, over all pulls.
    pub max_parallel_layers: usize,
    /// References of images that are reported as pinned, `*` matches any characters.
    pub pinned: Vec<String>,
    /// What images must run on.
    pub platform: Platform,
    /// How long a finished layer of a pull that did not end is kept for the next attempt.
    pub keep_unfinished: Duration,
    /// The programs that decide whether an image may be pulled.
    pub verifiers: VerifierConfig,
}

impl ImageStoreConfig {
    /// The defaults for these directories on this machine.
    pub fn new(root: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            root: root.into(),
            state: state.into(),
            registry: RegistryConfig::default(),
            max_parallel_layers: cores.max(2),
            pinned: Vec::new(),
            platform: host_platform(),
            keep_unfinished: Duration::from_secs(3600),
            verifiers: VerifierConfig::default(),
        }
    }
}

/// This machine in the spelling of image indexes.
pub fn host_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", "v8"),
        "x86" => ("386", ""),
        "arm" => ("arm", "v7"),
        "powerpc64" => ("ppc64le", ""),
        other => (other, ""),
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
}
