//! Signals and kernel parameters by name.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_oci::{cri_signal, parse_signal, sandbox_sysctls};
use cricket_process::fuzzing::sysctl_path;

/// A signal is one of the kernel's and survives CRI's names; a parameter is one of a pod's own namespaces, and its path
/// stays below `/proc/sys`. The text is a name, or a name and a value.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(number) = parse_signal(text) {
        assert!((1..=64).contains(&number));
        let name = cri_signal(number);
        let again = name.as_str_name().strip_prefix("SIGNAL_").and_then(parse_signal);
        assert!(name == v1::Signal::RuntimeDefault || again == Some(number), "{text}: {name:?}");
        assert_eq!(parse_signal(&text.to_ascii_lowercase()), Some(number));
    }
    if let Some(path) = sysctl_path(text) {
        assert!(path.len() < 512 && path.split('/').all(|c| !matches!(c, "" | "." | "..")), "{path}");
        assert!(!path.contains(['\0', '\n', ' ']));
    }
    let (name, value) = text.split_once('=').unwrap_or((text, "1"));
    let linux = v1::LinuxPodSandboxConfig {
        sysctls: HashMap::from([(name.to_owned(), value.to_owned())]),
        ..Default::default()
    };
    let config = v1::PodSandboxConfig { linux: Some(linux), ..Default::default() };
    for (name, value) in sandbox_sysctls(&config).unwrap_or_default() {
        let path = sysctl_path(&name).unwrap_or_else(|| panic!("{name:?} is accepted and cannot be set"));
        let own = ["net/", "fs/mqueue/", "kernel/msg", "kernel/sem", "kernel/shm"];
        assert!(own.iter().any(|prefix| path.starts_with(prefix)), "{path} is the host's");
        assert!(!value.is_empty() && !value.contains(['\n', '\0']));
    }
}
