//! The client opens two streams for each connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::header::{Kind, Request};
use super::pairs::{Added, Pair, Pairs};
use super::{copy, told};
use crate::backend::{Backend, ForwardOrder};
use crate::link::{Limits, drive};
use crate::pipe::Command;
use crate::spdy::{Accept, Connection, Handle, Headers, NewStream, Reader};

/// What the server offers.
pub(crate) const PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];
/// Streams of a client at once, those that wait and those with a half closed among them: 1,000 connections.
const MAX_STREAMS: usize = 2000;
/// New streams that wait to be looked at.
const NEW: usize = 16;
/// How long connections may take to hand over what the client sent before it went.
const DRAIN: Duration = Duration::from_secs(1);

/// Serves all of a client's connections until it goes.
pub(crate) async fn serve<B, T>(
    backend: Arc<B>,
    order: ForwardOrder,
    (reader, mut connection): (Reader<T>, Connection),
    limits: Limits,
    creation: Duration,
) where
    B: Backend,
    T: AsyncRead + AsyncWrite,
{
    let (to, opened) = mpsc::channel(NEW);
    // The number only matters to those that name no ID.
    let known = |headers: &Headers| Request::read(headers, u32::MAX).is_some();
    let gone = CancellationToken::new();
    let work = async {
        let session = Session { backend, pod: order.pod.into(), handle: connection.handle(), creation };
        let enough = async {
            gone.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = session.run(opened) => {}
            () = enough => {}
        }
        connection.finish([]).await;
    };
    drive(&limits, &gone, reader.run(Accept { limit: MAX_STREAMS, headers: known, to }), work).await;
}

struct Session<B> {
    backend: Arc<B>,
    pod: Arc<str>,
    handle: Handle,
    creation: Duration,
}

impl<B: Backend> Session<B> {
    /// Until the client opens no more streams and all connections have ended.
    async fn run(&self, mut opened: mpsc::Receiver<NewStream>) {
        let mut pairs = Pairs::default();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                stream = opened.recv() => {
                    let Some(stream) = stream else { break };
                    if let Some(pair) = self.add(&mut pairs, stream).await {
                        connections.spawn(forward(self.backend.clone(), self.pod.clone(), self.handle.clone(), pair));
                    }
                }
                (kind, late) = pairs.expired() => {
                    if kind == Kind::Error {
                        self.complain(late.id, "the data stream was not opened in time").await;
                    }
                    self.handle.reset(late.id).await;
                }
                Some(_ended) = connections.join_next() => {}
            }
        }
        while connections.join_next().await.is_some() {}
    }

    async fn add(&self, pairs: &mut Pairs, mut stream: NewStream) -> Option<Pair> {
        let id = stream.id;
        let Some(request) = Request::read(&stream.headers, id) else {
            self.handle.reset(id).await;
            return None;
        };
        // They may be large, and the stream may wait or live for long.
        stream.headers = Headers::default();
        match pairs.add(request, stream, self.creation) {
            Added::Waits => None,
            Added::Complete(pair) => Some(*pair),
            Added::Twice(stream) => {
                self.handle.reset(stream.id).await;
                None
            }
        }
    }

    async fn complain(&self, stream: u32, text: &'static str) {
        self.handle.send(Command::Data(stream, Bytes::from_static(text.as_bytes()))).await;
    }
}

async fn forward<B: Backend>(backend: Arc<B>, pod: Arc<str>, handle: Handle, pair: Pair) {
    let Pair { port, data, error } = pair;
    // Clients have nothing to say on it; what one says must not wait for a reader, and hold the others up.
    drop(error.input);
    let output = handle.output(data.id);
    let ended = tokio::select! {
        ended = copy(&backend, &pod, port, data.input, output) => ended,
        // Also by a client that had closed its half before: nobody is there for the answer.
        () = data.held.reset() => Ok(()),
    };
    if let Err(failure) = &ended {
        handle.send(Command::Data(error.id, told(&pod, port, failure).into())).await;
    }
    handle.send(Command::Fin(error.id)).await;
    if ended.is_err() {
        // So that the client gives its half up as well.
        handle.reset(data.id).await;
    }
}
