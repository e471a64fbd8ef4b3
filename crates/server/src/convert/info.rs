//! Verbose answers: JSON under the key `info` with the names that containerd gives, which crictl and scripts parse.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_image::Image;
use cricket_pod::{ContainerRecord, ContainerState, PodView, SandboxState};
use serde_json::{Value, json};

use crate::Service;

fn under_info(value: &Value) -> HashMap<String, String> {
    HashMap::from([("info".to_owned(), value.to_string())])
}

/// A sandbox's.
pub(crate) fn sandbox(service: &Service, pod: &PodView) -> HashMap<String, String> {
    let sandbox = &pod.record.sandbox;
    let monitor = pod.monitor.as_ref().map_or(0, cricket_pod::monitor_pid);
    let (overhead, sum) = sandbox.pod_resources();
    let mut shown = json!({
        "pid": sandbox.init.map_or(monitor, |(pid, _)| pid),
        "processStatus": if monitor == 0 { "stopped" } else { "running" },
        "netNamespaceClosed": netns_closed(sandbox.host_network(), sandbox.state),
        "runtimeHandler": sandbox.handler,
        "runtimeType": service.0.pods.handler_type(&sandbox.handler),
        "networkNamespace": sandbox.netns,
        "cniResult": sandbox.network.as_ref().map(|n| &n.result),
        "config": sandbox_config(&sandbox.config.0),
        "runtimeSpec": { "ociVersion": "1.2.1", "linux": { "namespaces": namespaces(pod) } },
    });
    for (key, said) in [("overhead", overhead), ("resources", sum)] {
        if let Some(said) = said {
            shown[key] = json!({ "linux": resources(said) });
        }
    }
    under_info(&shown)
}

/// Like the Go types of the CRI, without what is not set.
fn resources(r: &v1::LinuxContainerResources) -> Value {
    let mut set = serde_json::Map::new();
    let mut put = |key: &str, value: Value| {
        if value != json!(0) && value != json!("") {
            set.insert(key.to_owned(), value);
        }
    };
    put("cpu_period", json!(r.cpu_period));
    put("cpu_quota", json!(r.cpu_quota));
    put("cpu_shares", json!(r.cpu_shares));
    put("memory_limit_in_bytes", json!(r.memory_limit_in_bytes));
    put("oom_score_adj", json!(r.oom_score_adj));
    put("cpuset_cpus", json!(r.cpuset_cpus));
    put("cpuset_mems", json!(r.cpuset_mems));
    put("memory_swap_limit_in_bytes", json!(r.memory_swap_limit_in_bytes));
    if !r.hugepage_limits.is_empty() {
        let page = |p: &v1::HugepageLimit| json!({ "page_size": p.page_size, "limit": p.limit });
        put("hugepage_limits", r.hugepage_limits.iter().map(page).collect());
    }
    if !r.unified.is_empty() {
        put("unified", json!(r.unified));
    }
    Value::Object(set)
}

/// Whether the pod had a network namespace of its own and has it no more; the host's is never closed.
fn netns_closed(host_network: bool, state: SandboxState) -> bool {
    !host_network && state != SandboxState::Ready
}

fn namespaces(pod: &PodView) -> Value {
    let mut list = Vec::new();
    if let Some(netns) = &pod.record.sandbox.netns {
        list.push(json!({ "type": "network", "path": netns }));
    }
    Value::Array(list)
}

/// A container's.
pub(crate) async fn container(service: &Service, pod: &PodView, record: &ContainerRecord) -> HashMap<String, String> {
    let sandbox = &pod.record.sandbox.id;
    let pid = match &record.state {
        ContainerState::Running(running) => running.pid,
        _ => 0,
    };
    let spec = service.0.pods.runtime_spec(sandbox, &record.id).await;
    under_info(&json!({
        "sandboxID": sandbox.as_str(),
        "pid": pid,
        "removing": false,
        "snapshotKey": record.id.as_str(),
        "snapshotter": "overlayfs",
        "runtimeType": service.0.pods.handler_type(&pod.record.sandbox.handler),
        "config": container_config(&record.config.0),
        "runtimeSpec": spec,
    }))
}

/// An image's.
pub(crate) fn image(image: &Image) -> HashMap<String, String> {
    let spec: Value = serde_json::from_slice(&image.config_json).unwrap_or(Value::Null);
    under_info(&json!({ "chainID": image.chain_id.as_str(), "imageSpec": spec }))
}

/// The runtime's own, with `config` and `cniconfig` as keys of their own.
pub(crate) fn status(service: &Service) -> HashMap<String, String> {
    let shared = service.0.pods.shared();
    let mut info = HashMap::from([
        ("config".to_owned(), service.0.config.config.to_string()),
        ("cniconfig".to_owned(), shared.cni.config_json().to_string()),
        ("lastCNILoadStatus".to_owned(), said(shared.cni.ready())),
    ]);
    // Handlers with networks of their own: what the keys without a name say of the node's.
    for (name, networks, readiness) in shared.cni.handlers() {
        info.insert(format!("cniconfig.{name}"), networks.to_string());
        info.insert(format!("lastCNILoadStatus.{name}"), said(readiness));
    }
    info
}

fn said(readiness: Result<(), impl std::fmt::Display>) -> String {
    readiness.err().map_or_else(|| "OK".to_owned(), |e| e.to_string())
}

fn sandbox_config(c: &v1::PodSandboxConfig) -> Value {
    let m = c.metadata.clone().unwrap_or_default();
    json!({
        "metadata": { "name": m.name, "uid": m.uid, "namespace": m.namespace, "attempt": m.attempt },
        "hostname": c.hostname,
        "log_directory": c.log_directory,
        "dns_config": c.dns_config.as_ref().map(|d| json!({ "servers": d.servers, "searches": d.searches, "options": d.options })),
        "port_mappings": c.port_mappings.iter().map(|p| json!({
            "protocol": p.protocol, "container_port": p.container_port, "host_port": p.host_port, "host_ip": p.host_ip,
        })).collect::<Vec<_>>(),
        "labels": c.labels,
        "annotations": c.annotations,
        "linux": c.linux.as_ref().map(|l| json!({
            "cgroup_parent": l.cgroup_parent,
            "sysctls": l.sysctls,
            "overhead": l.overhead.as_ref().map(resources),
            "resources": l.resources.as_ref().map(resources),
        })),
    })
}

fn container_config(c: &v1::ContainerConfig) -> Value {
    let m = c.metadata.clone().unwrap_or_default();
    let mount = |m: &v1::Mount| {
        json!({
            "container_path": m.container_path, "host_path": m.host_path, "readonly": m.readonly,
            "propagation": m.propagation, "selinux_relabel": m.selinux_relabel,
        })
    };
    json!({
        "metadata": { "name": m.name, "attempt": m.attempt },
        "image": c.image.as_ref().map(|i| json!({ "image": i.image, "user_specified_image": i.user_specified_image })),
        "command": c.command,
        "args": c.args,
        "working_dir": c.working_dir,
        "envs": c.envs.iter().map(|e| json!({ "key": e.key, "value": e.value })).collect::<Vec<_>>(),
        "mounts": c.mounts.iter().map(mount).collect::<Vec<_>>(),
        "labels": c.labels,
        "annotations": c.annotations,
        "log_path": c.log_path,
        "stdin": c.stdin,
        "stdin_once": c.stdin_once,
        "tty": c.tty,
    })
}

#[cfg(test)]
mod tests {
    use cricket_pod::SandboxState::{NotReady, Ready};

    use super::netns_closed;

    #[test]
    fn only_a_namespace_of_the_pods_own_closes() {
        assert!(!netns_closed(false, Ready));
        assert!(netns_closed(false, NotReady));
        assert!(!netns_closed(true, NotReady));
    }
}
