//! Exec and attach: what both do once the client's streams are there, whatever they came over.
//!
//! Invariants: the status is the last thing that the client hears, behind all output; a client that goes cancels its
//! session.

mod resize;
mod spdy;
mod status;
mod websocket;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backend::{AttachOrder, Backend, ExecOrder, Failure, SessionIo, Streams};
use crate::pipe::{Command, Input, Output};

pub(crate) use resize::Parser as ResizeParser;
pub(crate) use spdy::{PROTOCOLS, serve as serve_spdy, version};
pub(crate) use websocket::serve as serve_websocket;

/// Sizes that wait for a terminal: a terminal that is slow gets the latest.
const SIZES: usize = 1;

/// A session of one of both kinds.
#[derive(Debug, Clone)]
pub(crate) enum Remote {
    /// A command.
    Exec(ExecOrder),
    /// A container's init.
    Attach(AttachOrder),
}

impl Remote {
    /// What the client asked for.
    pub(crate) fn streams(&self) -> Streams {
        match self {
            Self::Exec(order) => order.streams,
            Self::Attach(order) => order.streams,
        }
    }
}

/// The client's streams, by what they are for.
struct Ends {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    resize: Option<Input>,
    /// The channel of the status.
    error: u32,
    /// Channels of stdout and stderr, to be ended before that.
    outputs: Vec<u32>,
    /// The protocol's version.
    version: u8,
}

/// Runs the session and answers what the client hears at its end.
async fn run<B: Backend>(backend: &Arc<B>, remote: Remote, ends: Ends, gone: &CancellationToken) -> Vec<Command> {
    let (sizes, resize) = mpsc::channel(SIZES);
    let io = SessionIo { stdin: ends.stdin, stdout: ends.stdout, stderr: ends.stderr, resize, gone: gone.clone() };
    let begin = Instant::now();
    let (kind, container) = match &remote {
        Remote::Exec(order) => ("exec", order.container.clone()),
        Remote::Attach(order) => ("attach", order.container.clone()),
    };
    let session = async {
        match remote {
            Remote::Exec(order) => backend.exec(order, io).await,
            Remote::Attach(order) => backend.attach(order, io).await.map(|()| 0),
        }
    };
    let pump = async {
        if let Some(from) = ends.resize {
            resize::pump(from, sizes).await;
        } else {
            drop(sizes);
        }
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = session => outcome,
        () = pump => Err(Failure::new("the session was given up")),
    };
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    match &outcome {
        Ok(code) => tracing::info!(kind, container, ms, code, "session ended"),
        Err(error) => tracing::info!(kind, container, ms, %error, "session failed"),
    }
    let status = status::bytes(ends.version, &outcome);
    let mut last: Vec<_> = ends.outputs.into_iter().map(Command::Fin).collect();
    if !status.is_empty() {
        last.push(Command::Data(ends.error, status));
    }
    last.push(Command::Fin(ends.error));
    last
}
