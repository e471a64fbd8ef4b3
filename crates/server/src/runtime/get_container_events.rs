//! GetContainerEvents.

use cricket_cri_api::v1;
use cricket_pod::{Event, EventKind};
use tokio::sync::broadcast::Receiver;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::Service;
use crate::convert::{container, sandbox};
use crate::pieces::Streamed;

pub(super) fn handle(service: &Service) -> Streamed<v1::ContainerEventResponse> {
    Box::pin(until_missed(service.0.pods.events()).map(|event| event.map(|event| response(&event))))
}

/// The items until one was missed: nobody waits for a slow subscriber, and one with a gap would not know of it. It is
/// cut off by an error instead, after which kubelets list everything and subscribe again.
fn until_missed<T: Clone + Send + 'static>(items: Receiver<T>) -> impl Stream<Item = Result<T, Status>> {
    BroadcastStream::new(items).map(|item| {
        item.map_err(|BroadcastStreamRecvError::Lagged(missed)| {
            tracing::warn!(missed, "a subscriber of events is too slow and is cut off");
            Status::resource_exhausted(format!("{missed} events were missed: the subscriber is too slow"))
        })
    })
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
        pod_sandbox_status: Some(sandbox::status(&event.pod)),
        containers_statuses: event.pod.containers().map(|c| container::status(c)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_subscriber_is_told_so_and_nobody_waits_for_it() {
        let (events, slow) = tokio::sync::broadcast::channel(2);
        let mut slow = std::pin::pin!(until_missed(slow));
        let mut quick = std::pin::pin!(until_missed(events.subscribe()));
        for n in 0..3 {
            events.send(n).expect("there are subscribers");
            assert_eq!(quick.next().await.expect("an item").expect("none was missed"), n);
        }
        let cut = slow.next().await.expect("an answer").expect_err("one was missed");
        assert_eq!(cut.code(), tonic::Code::ResourceExhausted);
    }
}
