//! GetContainerEvents.

use cricket_cri_api::v1;
use cricket_pod::{Event, EventKind};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;

use super::Streamed;
use crate::Service;
use crate::convert::{container, sandbox};

pub(super) fn handle(service: &Service) -> Streamed<v1::ContainerEventResponse> {
    let events = BroadcastStream::new(service.0.pods.events());
    Box::pin(events.filter_map(|event| match event {
        Ok(event) => Some(Ok(response(&event))),
        Err(lagged) => {
            // The kubelet relists from time to time; what it missed it will see there.
            tracing::warn!(error = %lagged, "a subscriber of events is too slow");
            None
        }
    }))
}

fn response(event: &Event) -> v1::ContainerEventResponse {
    let kind = match event.kind {
        EventKind::Created => v1::ContainerEventType::ContainerCreatedEvent,
        EventKind::Started => v1::ContainerEventType::ContainerStartedEvent,
        EventKind::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
        EventKind::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    };
    v1::ContainerEventResponse {
        container_id: event.id.clone(),
        container_event_type: kind.into(),
        created_at: event.at,
        pod_sandbox_status: event.pod.listed().then(|| sandbox::status(&event.pod)),
        containers_statuses: event.pod.containers().map(|c| container::status(c)).collect(),
    }
}
