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
