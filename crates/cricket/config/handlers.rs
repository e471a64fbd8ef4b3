//! `containerd.runtimes.NAME`: the handlers that RuntimeClasses name.

use cricket_runtime::handlers::{HandlerConfig, HandlerOptions};

use super::error::Result;
use super::reader::Reader;
use super::versions::RUNTIME;

/// Every handler that is configured.
pub(super) fn read(r: &mut Reader) -> Result<Vec<HandlerConfig>> {
    let runtimes = ["plugins", RUNTIME, "containerd", "runtimes"];
    r.keys(&runtimes).into_iter().map(|name| handler(r, &runtimes, name)).collect()
}

fn handler(r: &mut Reader, runtimes: &[&str], name: String) -> Result<HandlerConfig> {
    let table: Vec<&str> = runtimes.iter().copied().chain([name.as_str()]).collect();
    let options: Vec<&str> = table.iter().copied().chain(["options"]).collect();
    let options = HandlerOptions {
        binary_name: r.optional(&options, "BinaryName")?.unwrap_or_default(),
        systemd_cgroup: r.optional(&options, "SystemdCgroup")?,
        root: r.optional(&options, "Root")?.unwrap_or_default(),
        type_url: r.optional(&options, "TypeUrl")?.unwrap_or_default(),
        config_path: r.optional(&options, "ConfigPath")?.unwrap_or_default(),
        config_body: r.optional(&options, "ConfigBody")?.unwrap_or_default(),
    };
    // Version 2's former name.
    let former: Option<String> = r.optional(&table, "sandbox_mode")?;
    Ok(HandlerConfig {
        runtime_type: r.optional(&table, "runtime_type")?.unwrap_or_default(),
        runtime_path: r.optional(&table, "runtime_path")?.unwrap_or_default(),
        options,
        pod_annotations: r.optional(&table, "pod_annotations")?.unwrap_or_default(),
        container_annotations: r.optional(&table, "container_annotations")?.unwrap_or_default(),
        privileged_without_host_devices: r.optional(&table, "privileged_without_host_devices")?.unwrap_or_default(),
        privileged_without_host_devices_all_devices_allowed: r
            .optional(&table, "privileged_without_host_devices_all_devices_allowed")?
            .unwrap_or_default(),
        base_runtime_spec: r.optional(&table, "base_runtime_spec")?.unwrap_or_default(),
        snapshotter: r.optional(&table, "snapshotter")?.unwrap_or_default(),
        sandboxer: r.optional(&table, "sandboxer")?.or(former).unwrap_or_default(),
        name: name.clone(),
        cni_conf_dir: r.optional(&table, "cni_conf_dir")?.unwrap_or_default(),
        cni_max_conf_num: r.optional(&table, "cni_max_conf_num")?.unwrap_or_default(),
    })
}
