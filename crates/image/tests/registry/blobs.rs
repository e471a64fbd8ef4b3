//! Transfers that break, stall, lie about their length or ignore what was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cricket_image::registry::{BlobStream, RegistryError, Source};
use cricket_model::{ErrorKind, Kinded};

use crate::content::*;
use crate::server::{Reply, Request, Server, Step};

async fn source(server: &Server) -> Source {
    registry().source(&reference(&server.host()), None).await.unwrap()
}

async fn open(server: &Server, bytes: &[u8], offset: u64) -> Result<BlobStream, RegistryError> {
    registry().fetch_blob(&source(server).await, &layer_of(bytes), offset).await
}

async fn drain(mut stream: BlobStream) -> Result<Vec<u8>, RegistryError> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        assert!(!chunk.is_empty());
        all.extend_from_slice(&chunk);
    }
    assert_eq!(stream.offset(), stream.size());
    Ok(all)
}

async fn read(server: &Server, bytes: &[u8], offset: u64) -> Result<Vec<u8>, RegistryError> {
    drain(open(server, bytes, offset).await?).await
}

/// Answers like a registry, but sends only so many bytes of what it promised.
fn cut(content: &Content, request: &Request, keep: usize) -> Reply {
    let mut reply = content.answer(request);
    let whole = match reply.steps.pop() {
        Some(Step::Send(bytes)) => bytes,
        _ => Vec::new(),
    };
    let sent = whole[..keep.min(whole.len())].to_vec();
    reply.header("content-length", whole.len()).send(sent)
}

#[tokio::test]
async fn can_be_read_by_a_task_of_its_own() {
    let bytes = noise(1000);
    let server = Content::image("tag", &bytes).serve().await;
    let (registry, reference) = (registry(), reference(&server.host()));
    let task = tokio::spawn(async move {
        let image = registry.resolve(&reference, None, &amd64(), None).await?;
        drain(registry.fetch_blob(&image.source, &image.layers[0], 0).await?).await
    });
    assert!(task.await.unwrap().unwrap() == bytes);
}

#[tokio::test]
async fn comes_whole_and_from_an_offset() {
    let bytes = noise(100_000);
    let server = Content::image("tag", &bytes).serve().await;
    assert!(read(&server, &bytes, 0).await.unwrap() == bytes);
    assert!(read(&server, &bytes, 99_990).await.unwrap() == bytes[99_990..]);
    assert!(read(&server, &bytes, 100_000).await.unwrap().is_empty());
    let ranges: Vec<_> = server.requests().iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=99990-".to_owned())]);
    let error = open(&server, &bytes, 100_001).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_was() {
    let bytes = noise(100_000);
    let content = Content::image("tag", &bytes);
    let server = Server::start(move |request| cut(&content, request, 40_000)).await;
    assert!(read(&server, &bytes, 0).await.unwrap() == bytes);
    let ranges: Vec<_> = server.requests().iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=40000-".to_owned()), Some("bytes=80000-".to_owned())]);
}

#[tokio::test]
async fn an_ignored_range_is_passed_over() {
    let bytes = noise(300_000);
    let (content, calls) = (Content::image("tag", &bytes), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        let whole = Request { headers: Vec::new(), ..request.clone() };
        let keep = if calls.fetch_add(1, Ordering::Relaxed) == 0 { 150_000 } else { usize::MAX };
        cut(&content, &whole, keep)
    })
    .await;
    assert!(read(&server, &bytes, 0).await.unwrap() == bytes);
    assert!(read(&server, &bytes, 123_456).await.unwrap() == bytes[123_456..]);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_refused_range_is_asked_for_as_a_whole() {
    let bytes = noise(1000);
    let whole = bytes.clone();
    let server = Server::start(move |request| match request.header("range") {
        Some(_) => Reply::new(416),
        None => Reply::ok(whole.clone()),
    })
    .await;
    assert!(read(&server, &bytes, 500).await.unwrap() == bytes[500..]);
    assert_eq!(server.requests().len(), 2);
    let never = Server::start(|_| Reply::new(416)).await;
    assert_eq!(open(&never, &bytes, 500).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(never.requests().len(), 2);
}

#[tokio::test]
async fn a_wrong_range_is_refused() {
    let bytes = noise(1000);
    for range in ["bytes 0-999/1000", "bytes 500-998/1000", "bytes 500-999/2000", "500-999/1000", ""] {
        let tail = bytes[500..].to_vec();
        let server = Server::start(move |_| Reply::new(206).header("content-range", range).send(tail.clone())).await;
        let error = open(&server, &bytes, 500).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{range}: {error}");
    }
}

#[tokio::test]
async fn retries_end() {
    let bytes = noise(10_000);
    let content = Content::image("tag", &bytes);
    // One byte for each connection: never a good stretch.
    let server = Server::start(move |request| cut(&content, request, 1)).await;
    let error = read(&server, &bytes, 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RegistryUnavailable, "{error}");
    assert!(error.to_string().contains("of 10000 bytes"), "{error}");
    assert_eq!(server.requests().len(), 1 + config().resumes as usize);
}

#[tokio::test]
async fn a_length_that_is_not_the_manifests_is_refused() {
    let bytes = noise(1000);
    for length in [999, 1001] {
        let server = Server::start(move |_| Reply::ok(vec![0; length])).await;
        let error = open(&server, &bytes, 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(&format!("a length of {length} bytes")), "{error}");
    }
    // Without a length the surplus is refused when it comes.
    let server = Server::start(|_| {
        Reply::new(200)
            .header("transfer-encoding", "chunked")
            .step(Step::Send([b"7d0\r\n".to_vec(), vec![0; 2000], b"\r\n0\r\n\r\n".to_vec()].concat()))
    })
    .await;
    let error = read(&server, &bytes, 0).await.unwrap_err();
    assert!(error.to_string().contains("more than the 1000 bytes"), "{error}");
}

#[tokio::test]
async fn standing_still_and_trickling_are_no_progress() {
    let bytes = noise(100_000);
    let (tiny, fast) = (Duration::from_millis(40), Duration::from_secs(20));
    let (first, rest) = (bytes[..50].to_vec(), bytes.len());
    let still = Server::start(move |_| {
        Reply::new(200).header("content-length", rest).send(first.clone()).step(Step::Pause(fast))
    })
    .await;
    let trickle = Server::start(move |_| {
        (0..500).fold(Reply::new(200).header("content-length", rest), |reply, _| {
            reply.send([0u8; 10]).step(Step::Pause(tiny))
        })
    })
    .await;
    for server in [still, trickle] {
        let start = Instant::now();
        let error = read(&server, &bytes, 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert!(error.to_string().contains("no progress"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(15));
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_slow_but_steady_transfer_and_a_slow_reader_are_fine() {
    let bytes = noise(40_000);
    let parts: Vec<Vec<u8>> = bytes.chunks(4000).map(<[u8]>::to_vec).collect();
    let server = Server::start(move |_| {
        parts
            .iter()
            .fold(Reply::new(200), |reply, part| reply.send(part.clone()).step(Step::Pause(Duration::from_millis(250))))
    })
    .await;
    // Longer than two windows.
    assert!(read(&server, &bytes, 0).await.unwrap() == bytes);

    let mut stream = open(&server, &bytes, 0).await.unwrap();
    let mut got = 0;
    while let Some(chunk) = stream.chunk().await.unwrap() {
        got += chunk.len();
        if got < 5_000 {
            tokio::time::sleep(config().progress_timeout * 2).await;
        }
    }
    assert_eq!(got, bytes.len());
}

#[tokio::test]
async fn a_dropped_chunk_future_loses_nothing() {
    let bytes = noise(20_000);
    let parts: Vec<Vec<u8>> = bytes.chunks(2000).map(<[u8]>::to_vec).collect();
    let server = Server::start(move |_| {
        parts
            .iter()
            .fold(Reply::new(200), |reply, part| reply.send(part.clone()).step(Step::Pause(Duration::from_millis(50))))
    })
    .await;
    let mut stream = open(&server, &bytes, 0).await.unwrap();
    let mut all = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(7), stream.chunk()).await {
            Err(_) => continue,
            Ok(chunk) => match chunk.unwrap() {
                Some(chunk) => all.extend_from_slice(&chunk),
                None => break,
            },
        }
    }
    assert!(all == bytes);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_transfer_changes_to_the_next_endpoint_in_the_middle() {
    let bytes = noise(100_000);
    let content = Content::image("tag", &bytes);
    let calls = AtomicUsize::new(0);
    let flaky_content = content.clone();
    let flaky = Server::start(move |request| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => cut(&flaky_content, request, 30_000),
        _ => Reply::new(500),
    })
    .await;
    let good = content.serve().await;
    let mut config = config();
    config.resumes = 1;
    config.mirrors.insert(good.host(), vec![format!("http://{}", flaky.host())]);
    let registry = cricket_image::registry::Registry::new(config);
    let source = registry.source(&reference(&good.host()), None).await.unwrap();
    let stream = registry.fetch_blob(&source, &layer_of(&bytes), 0).await.unwrap();
    assert!(drain(stream).await.unwrap() == bytes);
    assert_eq!(flaky.requests().len(), 2);
    assert_eq!(good.requests()[0].header("range"), Some("bytes=30000-"));
}

#[tokio::test]
async fn dropping_the_stream_ends_the_transfer() {
    let bytes = noise(1 << 20);
    let server = Server::start({
        let bytes = bytes.clone();
        move |_| {
            Reply::new(200)
                .header("content-length", 1u64 << 30)
                .send(bytes.clone())
                .step(Step::Repeat(vec![0; 1 << 16], 1 << 14))
        }
    })
    .await;
    let mut layer = layer_of(&bytes);
    layer.size = 1 << 30;
    let registry = registry();
    let source = registry.source(&reference(&server.host()), None).await.unwrap();
    let mut stream = registry.fetch_blob(&source, &layer, 0).await.unwrap();
    stream.chunk().await.unwrap();
    drop(stream);
    // The server's writes fail once the socket is gone, and it takes the next request.
    tokio::time::timeout(Duration::from_secs(10), registry.fetch_blob(&source, &layer, 0)).await.unwrap().unwrap();
    assert_eq!(server.requests().len(), 2);
}
