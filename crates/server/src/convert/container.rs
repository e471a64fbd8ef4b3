//! Containers.

use cricket_cri_api::v1;
use cricket_pod::{ContainerRecord, ContainerState};

/// As lists give it.
pub(crate) fn state(record: &ContainerRecord) -> v1::ContainerState {
    match record.state {
        ContainerState::Creating | ContainerState::Created | ContainerState::Starting => {
            v1::ContainerState::ContainerCreated
        }
        ContainerState::Running(_) => v1::ContainerState::ContainerRunning,
        ContainerState::Exited(_) => v1::ContainerState::ContainerExited,
        ContainerState::Removing => v1::ContainerState::ContainerUnknown,
    }
}

fn image(record: &ContainerRecord) -> v1::ImageSpec {
    let asked = record.config.0.image.clone().unwrap_or_default();
    v1::ImageSpec {
        image: record.image.name.clone(),
        annotations: asked.annotations,
        user_specified_image: record.image.user_specified.clone(),
        runtime_handler: asked.runtime_handler,
        image_ref: asked.image_ref,
    }
}

/// For lists.
pub(crate) fn item(sandbox: &str, record: &ContainerRecord) -> v1::Container {
    let config = &record.config.0;
    v1::Container {
        id: record.id.to_string(),
        pod_sandbox_id: sandbox.to_owned(),
        metadata: config.metadata.clone(),
        image: Some(image(record)),
        image_ref: record.image.reference.clone(),
        state: state(record).into(),
        created_at: record.created_at,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        image_id: record.image.id.clone(),
    }
}

/// As they were asked for, with the digests of the images among them.
fn mounts(record: &ContainerRecord) -> Vec<v1::Mount> {
    let mut mounts = record.config.0.mounts.clone();
    for known in &record.images {
        if let Some(image) = mounts.get_mut(known.index).and_then(|mount| mount.image.as_mut()) {
            image.image_ref.clone_from(&known.reference);
        }
    }
    mounts
}

/// For statuses and events.
pub(crate) fn status(record: &ContainerRecord) -> v1::ContainerStatus {
    let config = &record.config.0;
    let mut status = v1::ContainerStatus {
        id: record.id.to_string(),
        metadata: config.metadata.clone(),
        state: state(record).into(),
        created_at: record.created_at,
        image: Some(image(record)),
        image_ref: record.image.reference.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: mounts(record),
        log_path: record.log_path.clone(),
        resources: Some(v1::ContainerResources { linux: Some(record.resources.0.clone()), windows: None }),
        image_id: record.image.id.clone(),
        user: Some(v1::ContainerUser { linux: Some(record.user.0.clone()) }),
        stop_signal: cricket_oci::cri_signal(record.stop_signal).into(),
        ..Default::default()
    };
    match &record.state {
        ContainerState::Running(running) => status.started_at = running.started_at,
        ContainerState::Exited(exited) => {
            status.started_at = exited.started_at;
            status.finished_at = exited.finished_at;
            status.exit_code = exited.code;
            status.reason.clone_from(&exited.reason);
            status.message.clone_from(&exited.message);
        }
        _ => {}
    }
    status
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::{Duration, Instant};

    use cricket_model::ContainerId;
    use cricket_pod::{ImageFacts, Stored};
    use prost::Message as _;

    use super::*;

    /// One as a kubelet asks for it, with a long termination message path, ports and a hash in annotations.
    fn record(number: u16) -> ContainerRecord {
        let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let labels: HashMap<_, _> = text(&[
            ("io.kubernetes.container.name", "a-container-of-a-longer-name"),
            ("io.kubernetes.pod.name", "deployment-of-something-7d9c5b8f6d-x2x9k"),
            ("io.kubernetes.pod.namespace", "a-namespace-of-some-length"),
            ("io.kubernetes.pod.uid", "0b9a7c1e-3a52-4d36-9c1c-1f6f4f0f7a11"),
        ]);
        let ports = r#"[{"name":"metrics","containerPort":9100,"protocol":"TCP"},{"name":"web","containerPort":8443,"protocol":"TCP"}]"#;
        let handler = "{\"exec\":{\"command\":[\"/bin/sh\",\"-c\",\"".to_owned() + &"sleep 15; ".repeat(40) + "\"]}}";
        let annotations = text(&[
            ("io.kubernetes.container.hash", "5f3c2b1a"),
            ("io.kubernetes.container.ports", ports),
            ("io.kubernetes.container.preStopHandler", &handler),
            ("io.kubernetes.container.restartCount", "3"),
            ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
            ("io.kubernetes.container.terminationMessagePolicy", "File"),
            ("io.kubernetes.pod.terminationGracePeriod", "30"),
        ]);
        let name = "registry.example.com/team/project/component:v1.27.3-build.20260101";
        let digest = "sha256:8a0b4b9c4d1f5e2a7f6c3b2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: format!("container-{number}"), attempt: 3 }),
            image: Some(v1::ImageSpec { image: digest.to_owned(), ..Default::default() }),
            // What lists do not have.
            envs: vec![v1::KeyValue { key: "SERVICE".into(), value: "x".repeat(16 << 10).into() }],
            labels,
            annotations,
            ..Default::default()
        };
        ContainerRecord {
            id: ContainerId::generate(),
            config: Stored(config),
            image: ImageFacts {
                name: name.to_owned(),
                user_specified: name.to_owned(),
                reference: format!("registry.example.com/team/project/component@{digest}"),
                id: digest.to_owned(),
            },
            created_at: 1_767_225_600_000_000_000 + i64::from(number),
            state: ContainerState::Created,
            timeline: Default::default(),
            cgroup: String::new(),
            log_path: String::new(),
            stop_signal: 15,
            user: Stored::default(),
            resources: Stored::default(),
            volumes: Vec::new(),
            images: Vec::new(),
            make_dirs: Vec::new(),
            poststop: Default::default(),
        }
    }

    /// Kubelets accept 16 MiB, other clients 4; the list is made every second.
    #[test]
    fn a_thousand_are_a_short_list_at_once() {
        let (records, sandbox) = ((0..1000).map(record).collect::<Vec<_>>(), ContainerId::generate().to_string());
        let begin = Instant::now();
        let containers = records.iter().map(|record| item(&sandbox, record)).collect();
        let bytes = v1::ListContainersResponse { containers }.encode_to_vec();
        let took = begin.elapsed();
        assert!((1 << 20..4 << 20).contains(&bytes.len()), "{} bytes", bytes.len());
        // Some milliseconds where nothing else runs.
        assert!(took < Duration::from_secs(1), "{took:?}");
        let read = v1::ListContainersResponse::decode(bytes.as_slice()).expect("a list").containers;
        assert!(read.iter().map(|container| container.id.as_str()).eq(records.iter().map(|record| record.id.as_str())));
    }
}
