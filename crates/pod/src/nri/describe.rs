//! Pods and containers in the protocol's words, as containerd tells them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cricket_nri::api;
use cricket_oci::oci_spec::runtime::Spec;

use crate::bundle::LATER;
use crate::record::{ContainerRecord, ContainerState, SandboxRecord};

/// A pod.
pub(super) fn pod(sandbox: &SandboxRecord) -> api::PodSandbox {
    let config = &sandbox.config.0;
    let metadata = config.metadata.clone().unwrap_or_default();
    let linux = config.linux.clone().unwrap_or_default();
    let (overhead, resources) = sandbox.pod_resources();
    let namespaces = sandbox.netns.iter().map(|path| namespace("network", path));
    api::PodSandbox {
        id: sandbox.id.to_string(),
        name: metadata.name,
        uid: metadata.uid,
        namespace: metadata.namespace,
        labels: sorted(&config.labels),
        annotations: sorted(&config.annotations),
        runtime_handler: sandbox.handler.clone(),
        linux: Some(api::LinuxPodSandbox {
            pod_overhead: overhead.map(cricket_nri::resources),
            pod_resources: resources.map(cricket_nri::resources),
            cgroup_parent: linux.cgroup_parent.clone(),
            cgroups_path: linux.cgroup_parent,
            namespaces: namespaces.collect(),
            resources: None,
        }),
        pid: sandbox.init.map_or(0, |(pid, _)| pid),
        ips: sandbox.network.iter().flat_map(|network| &network.ips).map(ToString::to_string).collect(),
    }
}

/// A container, with what its specification says where that is at hand.
pub(super) fn container(sandbox: &SandboxRecord, record: &ContainerRecord, spec: Option<&Spec>) -> api::Container {
    let config = &record.config.0;
    let (state, pid, times, exit) = match &record.state {
        ContainerState::Creating | ContainerState::Created | ContainerState::Starting => {
            (api::ContainerState::ContainerCreated, 0, (0, 0), None)
        }
        ContainerState::Running(running) => {
            (api::ContainerState::ContainerRunning, running.pid, (running.started_at, 0), None)
        }
        ContainerState::Exited(exited) => {
            let times = (exited.started_at, exited.finished_at);
            (api::ContainerState::ContainerStopped, 0, times, Some(exited.clone()))
        }
        ContainerState::Removing => (api::ContainerState::ContainerStopped, 0, (0, 0), None),
    };
    let seccomp = config.linux.as_ref().and_then(|l| l.security_context.as_ref()).and_then(|s| s.seccomp.as_ref());
    let seccomp_profile = seccomp.map(|profile| api::SecurityProfile {
        profile_type: profile.profile_type,
        localhost_ref: profile.localhost_ref.clone(),
    });
    let mut annotations = sorted(&config.annotations);
    if let Some(more) = spec.and_then(|spec| spec.annotations().as_ref()) {
        annotations.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let (_, digest) = record.image.reference.split_once('@').unwrap_or_default();
    let described = api::Container {
        id: record.id.to_string(),
        pod_sandbox_id: sandbox.id.to_string(),
        name: config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
        state: state.into(),
        labels: sorted(&config.labels),
        annotations,
        linux: Some(api::LinuxContainer {
            resources: Some(cricket_nri::resources(&record.resources.0)),
            cgroups_path: record.cgroup.clone(),
            seccomp_profile,
            ..api::LinuxContainer::default()
        }),
        pid,
        created_at: record.created_at,
        started_at: times.0,
        finished_at: times.1,
        exit_code: exit.as_ref().map_or(0, |exit| exit.code),
        status_reason: exit.as_ref().map(|exit| exit.reason.clone()).unwrap_or_default(),
        status_message: exit.map(|exit| exit.message).unwrap_or_default(),
        cdi_devices: config.cdi_devices.iter().map(|d| api::CdiDevice { name: d.name.clone() }).collect(),
        image: Some(api::Image {
            name: record.image.name.clone(),
            digest: digest.to_owned(),
            config_digest: record.image.id.clone(),
        }),
        ..api::Container::default()
    };
    let Some(spec) = spec else { return described };
    let mut described = cricket_nri::container(spec, described);
    // What stands for a namespace that is known at the start only says nothing to a plugin.
    let later = described.linux.iter_mut().flat_map(|linux| &mut linux.namespaces).filter(|ns| ns.path == LATER);
    later.for_each(|namespace| namespace.path.clear());
    described
}

/// What cannot be changed of a container that is made.
pub(super) fn updatable(resources: &api::LinuxResources) -> Result<(), String> {
    let memory = resources.memory.unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    let refused = [
        (memory.reservation.is_some(), "the memory reservation"),
        (memory.swappiness.is_some(), "the swappiness"),
        (memory.kernel.is_some() || memory.kernel_tcp.is_some(), "the limit of kernel memory"),
        (memory.disable_oom_killer.is_some() || memory.use_hierarchy.is_some(), "the memory cgroup's behaviour"),
        (cpu.realtime_runtime.is_some() || cpu.realtime_period.is_some(), "the realtime CPU time"),
        (resources.pids.is_some(), "the limit of processes"),
        (resources.blockio_class.is_some(), "the block I/O class"),
        (resources.rdt_class.is_some(), "the RDT class"),
        (!resources.devices.is_empty(), "device rules"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(format!("{what} of a container that exists cannot be changed")),
        None => Ok(()),
    }
}

fn namespace(kind: &str, path: &Path) -> api::LinuxNamespace {
    api::LinuxNamespace { r#type: kind.to_owned(), path: path.to_string_lossy().into_owned() }
}

fn sorted(map: &HashMap<String, String>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cricket_cri_api::v1;
    use cricket_nri::api::{LinuxCpu, LinuxPids, LinuxResources, OptionalInt64};

    #[test]
    fn limits_that_the_update_of_a_container_has_no_place_for_are_refused() {
        let quota = LinuxCpu { quota: Some(OptionalInt64 { value: 1 }), ..LinuxCpu::default() };
        assert!(updatable(&LinuxResources { cpu: Some(quota), ..LinuxResources::default() }).is_ok());
        let pids = LinuxResources { pids: Some(LinuxPids { limit: 5 }), ..LinuxResources::default() };
        assert!(updatable(&pids).is_err_and(|e| e.contains("processes")));
    }

    #[test]
    fn a_pod_without_anything_is_described() {
        let zero = v1::PodSandboxConfig::default();
        let record: SandboxRecord = SandboxRecord {
            id: cricket_model::SandboxId::generate(),
            config: crate::record::Stored(zero),
            handler: "h".into(),
            created_at: 0,
            boot_id: String::new(),
            netns: Some("/run/netns/x".into()),
            network: None,
            init: Some((7, 1)),
            selinux: None,
            state: crate::record::SandboxState::Ready,
            updated: None,
            timeline: Default::default(),
        };
        let pod = pod(&record);
        assert_eq!((pod.runtime_handler.as_str(), pod.pid, pod.ips.len()), ("h", 7, 0));
        assert_eq!(
            pod.linux.map(|linux| linux.namespaces),
            Some(vec![namespace("network", Path::new("/run/netns/x"))])
        );
    }
}
