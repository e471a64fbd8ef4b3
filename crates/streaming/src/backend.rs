//! What the server needs of the runtime: nothing in this crate knows a pod.

use std::future::Future;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pipe::{Input, Output};

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// Which streams a client asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; never together with a terminal.
    pub stderr: bool,
    /// The process has a terminal.
    pub tty: bool,
}

/// A command to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOrder {
    /// The container's whole ID.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The streams.
    pub streams: Streams,
}

/// An attachment to a container's init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachOrder {
    /// The container's whole ID.
    pub container: String,
    /// The streams.
    pub streams: Streams,
}

/// Connections into a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardOrder {
    /// The pod's whole ID.
    pub pod: String,
    /// The ports, where the protocol cannot name them itself (plain WebSocket channels).
    pub ports: Vec<u16>,
}

/// The client's ends of a session. Dropping one tells the client that it has ended.
#[derive(Debug)]
pub struct SessionIo {
    /// What the client types; ends when the client closes it. `None` where it was not asked for.
    pub stdin: Option<Input>,
    /// Where standard output goes.
    pub stdout: Option<Output>,
    /// Where standard error goes.
    pub stderr: Option<Output>,
    /// Changes of the terminal's size, the latest ones; ends with the session.
    pub resize: mpsc::Receiver<TerminalSize>,
    /// The client is gone, was idle for too long, or the daemon ends: end the session. It is dropped a few seconds
    /// later if it has not ended by then.
    pub gone: CancellationToken,
}

/// Why a session could not do what was asked: one line for a person, sent to the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl std::fmt::Display) -> Self {
        Self(text.to_string())
    }
}

/// A connection into a pod.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The runtime behind the server.
pub trait Backend: Send + Sync + 'static {
    /// Runs a command until it has ended and its output has been written. Answers its exit code.
    fn exec(&self, order: ExecOrder, io: SessionIo) -> impl Future<Output = Result<i32, Failure>> + Send;

    /// Connects to a container's init until that has ended or the client has gone.
    fn attach(&self, order: AttachOrder, io: SessionIo) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Connects to a TCP port inside of a pod.
    fn port_forward(&self, pod: &str, port: u16) -> impl Future<Output = Result<Pin<Box<dyn Duplex>>, Failure>> + Send;
}
