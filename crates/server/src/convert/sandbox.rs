//! Sandboxes.

use cricket_cri_api::v1;
use cricket_pod::{PodView, SandboxState};

/// As lists give it.
pub(crate) fn state(state: SandboxState) -> v1::PodSandboxState {
    match state {
        SandboxState::Ready => v1::PodSandboxState::SandboxReady,
        SandboxState::Creating | SandboxState::NotReady | SandboxState::Removing => {
            v1::PodSandboxState::SandboxNotready
        }
    }
}

/// For lists.
pub(crate) fn item(pod: &PodView) -> v1::PodSandbox {
    let sandbox = &pod.record.sandbox;
    let config = &sandbox.config.0;
    v1::PodSandbox {
        id: sandbox.id.to_string(),
        metadata: config.metadata.clone(),
        state: state(sandbox.state).into(),
        created_at: sandbox.created_at,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: sandbox.handler.clone(),
    }
}

/// For statuses and events. The namespace options are echoed: the kubelet makes a pod anew that lacks them.
pub(crate) fn status(pod: &PodView) -> v1::PodSandboxStatus {
    let sandbox = &pod.record.sandbox;
    let config = &sandbox.config.0;
    let options = config
        .linux
        .as_ref()
        .and_then(|l| l.security_context.as_ref())
        .and_then(|s| s.namespace_options.clone())
        .unwrap_or_default();
    v1::PodSandboxStatus {
        id: sandbox.id.to_string(),
        metadata: config.metadata.clone(),
        state: state(sandbox.state).into(),
        created_at: sandbox.created_at,
        network: Some(network(pod)),
        linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options: Some(options) }) }),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: sandbox.handler.clone(),
    }
}

fn network(pod: &PodView) -> v1::PodSandboxNetworkStatus {
    let mut ips = pod.record.sandbox.network.iter().flat_map(|n| n.ips.iter().map(ToString::to_string));
    let ip = ips.next().unwrap_or_default();
    v1::PodSandboxNetworkStatus { ip, additional_ips: ips.map(|ip| v1::PodIp { ip }).collect() }
}
