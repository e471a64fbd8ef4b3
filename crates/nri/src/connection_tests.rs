use tokio::net::UnixStream;

use super::*;
use crate::api::Empty;
use crate::peer::Peer;
use crate::ttrpc::{INVALID_ARGUMENT, MAX_MESSAGE};

fn pair(serve: Serve) -> (Connection, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::start(ours, serve), Peer::new(theirs))
}

fn nobody() -> Serve {
    Arc::new(|_| Box::pin(async { Ok(Vec::new()) }))
}

const SECOND: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(30);

#[tokio::test]
async fn calls_and_answers_in_any_order() {
    let (connection, mut peer) = pair(nobody());
    let (one, two) = (api_update("c1"), api_update("c2"));
    let first = connection.call::<_, crate::api::ContainerUpdate>("P", "One", &one, SECOND);
    let second = connection.call::<_, crate::api::ContainerUpdate>("P", "Two", &two, SECOND);
    let (first, second, ()) = tokio::join!(first, second, async {
        let (a, b) = (peer.read().await.unwrap(), peer.read().await.unwrap());
        assert_eq!((a.stream, b.stream, a.flags, a.kind), (1, 3, REMOTE_CLOSED, REQUEST));
        for message in [b, a] {
            let request = Request::decode(message.payload.as_slice()).unwrap();
            assert!(request.timeout_nano > 0 && request.service == "P");
            peer.answer(message.stream, Ok(request.payload)).await;
        }
    });
    assert_eq!((first.unwrap(), second.unwrap()), (one, two));
}

fn api_update(id: &str) -> crate::api::ContainerUpdate {
    crate::api::ContainerUpdate { container_id: id.into(), ..Default::default() }
}

#[tokio::test]
async fn an_answer_that_is_a_status_or_late_or_none() {
    let (connection, mut peer) = pair(nobody());
    let status = Status { code: INVALID_ARGUMENT, message: "no".into() };
    let (refused, ()) = tokio::join!(connection.call::<_, Empty>("P", "M", &Empty {}, SECOND), async {
        let stream = peer.read().await.unwrap().stream;
        peer.answer(stream, Err(status.clone())).await;
    });
    assert_eq!(refused.unwrap_err(), CallError::Status(status));
    let late = connection.call::<_, Empty>("P", "M", &Empty {}, SHORT).await;
    assert_eq!(late.unwrap_err(), CallError::Timeout(SHORT));
    let stream = peer.read().await.unwrap().stream;
    peer.answer(stream, Ok(Vec::new())).await;
    // What came too late harms nobody.
    let (next, ()) = tokio::join!(connection.call::<_, Empty>("P", "M", &Empty {}, SECOND), async {
        let stream = peer.read().await.unwrap().stream;
        peer.answer(stream, Ok(Vec::new())).await;
    });
    next.unwrap();
    let (gone, ()) = tokio::join!(connection.call::<_, Empty>("P", "M", &Empty {}, SECOND), async { drop(peer) });
    assert_eq!(gone.unwrap_err(), CallError::Closed);
    connection.closed().await;
    assert_eq!(connection.call::<_, Empty>("P", "M", &Empty {}, SECOND).await.unwrap_err(), CallError::Closed);
}

#[tokio::test]
async fn a_protocol_error_ends_the_connection() {
    let wrong: [(Lane, u8, Vec<u8>); 5] = [
        (Lane::Plugin, 3, Vec::new()),
        (Lane::Plugin, RESPONSE, b"\xff\xff\xff".to_vec()),
        (Lane::Runtime, RESPONSE, Vec::new()),
        (Lane::Runtime, REQUEST, b"\xff\xff\xff".to_vec()),
        (Lane::Runtime, 77, Vec::new()),
    ];
    for (lane, kind, payload) in wrong {
        let (connection, mut peer) = pair(nobody());
        let (result, ()) = tokio::join!(connection.call::<_, Empty>("P", "M", &Empty {}, SECOND), async {
            let stream = peer.read().await.unwrap().stream;
            peer.write(lane, stream, kind, payload).await;
            assert_eq!(peer.read().await, None);
        });
        assert!(matches!(result.unwrap_err(), CallError::Closed | CallError::Protocol(_)), "{lane:?} {kind}");
        assert!(connection.is_closed());
    }
}

#[tokio::test]
async fn too_large_a_request_is_not_sent() {
    let (connection, _peer) = pair(nobody());
    let large = api_update(&"x".repeat(MAX_MESSAGE));
    let error = connection.call::<_, Empty>("P", "M", &large, SECOND).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge(size) if size > MAX_MESSAGE));
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_plugin_that_does_not_read_is_disconnected() {
    let (connection, _peer) = pair(nobody());
    let large = api_update(&"x".repeat(1 << 20));
    for _ in 0..QUEUE + 4 {
        let _ = connection.call::<_, Empty>("P", "M", &large, Duration::from_millis(2)).await;
    }
    assert!(connection.is_closed());
}

#[tokio::test]
async fn the_plugins_calls_are_answered_beside_each_other_up_to_a_bound() {
    let (release, gate) = tokio::sync::watch::channel(false);
    let serve: Serve = Arc::new(move |Call { method, payload, .. }| {
        let mut gate = gate.clone();
        Box::pin(async move {
            if method == "S/Wait" {
                let _ = gate.wait_for(|open| *open).await;
            }
            Ok(payload)
        })
    });
    let (_connection, mut peer) = pair(serve);
    for n in 0..CALLS as u32 {
        peer.call(2 * n + 1, "Wait").await;
    }
    peer.call(101, "More").await;
    let busy = peer.read().await.unwrap();
    let status = Response::decode(busy.payload.as_slice()).unwrap().status.unwrap();
    assert_eq!((busy.stream, busy.lane, status.code), (101, Lane::Runtime, RESOURCE_EXHAUSTED));
    release.send(true).unwrap();
    for _ in 0..CALLS {
        let answer = peer.read().await.unwrap();
        assert_eq!(Response::decode(answer.payload.as_slice()).unwrap().payload, b"p");
    }
}
