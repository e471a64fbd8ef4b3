//! The client opens a stream for each of stdin, stdout, stderr, the status and the terminal's size, named by a header;
//! the session begins when all that were asked for are there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Ends, Remote, run};
use crate::backend::{Backend, Streams};
use crate::link::{Limits, drive};
use crate::spdy::{Accept, Connection, Handle, Headers, NewStream, Reader};

/// What the server offers, the best first.
pub(crate) const PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// The header that says what a stream is for.
const TYPE: &str = "streamtype";
const TYPES: [&str; 5] = ["error", "stdin", "stdout", "stderr", "resize"];
/// Resizing came with this version.
const RESIZE_SINCE: u8 = 3;
/// Streams at once: one of each type, and as many that are refused.
const MAX_STREAMS: usize = 10;

/// The version of one of [`PROTOCOLS`].
pub(crate) fn version(protocol: &str) -> u8 {
    PROTOCOLS.iter().position(|p| *p == protocol).map_or(1, |at| 4 - at as u8)
}

/// Serves the whole session.
pub(crate) async fn serve<B, T>(
    backend: Arc<B>,
    remote: Remote,
    version: u8,
    (reader, mut connection): (Reader<T>, Connection),
    limits: Limits,
    creation: Duration,
) where
    B: Backend,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (to, mut opened) = mpsc::channel(MAX_STREAMS);
    let known = |headers: &Headers| headers.get(TYPE).is_some_and(|t| TYPES.contains(&t));
    let gone = CancellationToken::new();
    let work = async {
        let handle = connection.handle();
        let mut last = Vec::new();
        match tokio::time::timeout(creation, collect(&mut opened, &handle, remote.streams(), version)).await {
            Ok(Some(ends)) => {
                drop(opened);
                last = run(&backend, remote, ends, &gone).await;
            }
            Ok(None) => {}
            Err(_) => tracing::info!(?creation, "the client did not open its streams in time"),
        }
        connection.finish(last).await;
    };
    drive(&limits, &gone, reader.run(Accept { limit: MAX_STREAMS, headers: known, to }), work).await;
}

/// Waits for the streams that were asked for; `None` if the client goes before.
async fn collect(
    opened: &mut mpsc::Receiver<NewStream>,
    handle: &Handle,
    wanted: Streams,
    version: u8,
) -> Option<Ends> {
    let resize = wanted.tty && version >= RESIZE_SINCE;
    let needed = [true, wanted.stdin, wanted.stdout, wanted.stderr, resize];
    let mut streams: [Option<NewStream>; 5] = Default::default();
    while streams.iter().zip(needed).any(|(stream, needed)| needed && stream.is_none()) {
        let stream = opened.recv().await?;
        let place = TYPES.iter().position(|t| Some(*t) == stream.headers.get(TYPE)).and_then(|at| streams.get_mut(at));
        match place {
            Some(place) if place.is_none() => *place = Some(stream),
            _ => handle.reset(stream.id).await,
        }
    }
    let [error, stdin, stdout, stderr, resize] = streams;
    // Streams that nobody asked for stay open and silent until the end.
    let output = |stream: &Option<NewStream>, wanted: bool| {
        stream.as_ref().filter(|_| wanted).map(|stream| handle.output(stream.id))
    };
    Some(Ends {
        stdout: output(&stdout, wanted.stdout),
        stderr: output(&stderr, wanted.stderr),
        outputs: [stdout, stderr].into_iter().flatten().map(|stream| stream.id).collect(),
        stdin: stdin.filter(|_| wanted.stdin).map(|stream| stream.input),
        resize: resize.map(|stream| stream.input),
        error: error?.id,
        version,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_of_the_protocols() {
        assert_eq!(super::PROTOCOLS.map(super::version), [4, 3, 2, 1]);
    }
}
