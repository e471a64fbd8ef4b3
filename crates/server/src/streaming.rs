//! Sessions of streaming clients over pods.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use cricket_pod::{AttachSession, Attachment, Chain, Error, ExecProcess, ExecSession, Pods, Terminal};
use cricket_streaming::{AttachOrder, Backend, Duplex, ExecOrder, Failure, SessionIo, TerminalSize};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// How long a client may take for the last output of what has ended.
const REST: Duration = Duration::from_secs(60);

/// The pods, as the streaming server sees them.
#[derive(Clone)]
pub struct Sessions(Pods);

impl Sessions {
    /// Of these pods.
    pub fn new(pods: Pods) -> Self {
        Self(pods)
    }
}

impl Backend for Sessions {
    async fn exec(&self, order: ExecOrder, io: SessionIo) -> Result<i32, Failure> {
        let streams = order.streams;
        let session = ExecSession {
            command: order.command,
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let gone = io.gone.clone();
        let run = async {
            let process = self.0.exec_session(&order.container, session).await.map_err(failure)?;
            let ExecProcess { stdin, stdout, stderr, terminal, mut exit } = process;
            let outputs = outputs(stdout.zip(io.stdout), stderr.zip(io.stderr));
            let ended = with_outputs(exit.wait(), outputs);
            tokio::select! {
                code = ended => code.map_err(failure),
                () = inputs(stdin.zip(io.stdin), terminal, io.resize) => Err(ended_early()),
            }
        };
        tokio::select! {
            ended = run => ended,
            // What `run` holds is dropped, and the command killed with it.
            () = gone.cancelled() => Err(ended_early()),
        }
    }

    async fn attach(&self, order: AttachOrder, io: SessionIo) -> Result<(), Failure> {
        let streams = order.streams;
        let session =
            AttachSession { tty: streams.tty, stdin: streams.stdin, stdout: streams.stdout, stderr: streams.stderr };
        let gone = io.gone.clone();
        let run = async {
            let attachment = self.0.attach(&order.container, session).await.map_err(failure)?;
            let Attachment { stdin, stdout, stderr, terminal, closed } = attachment;
            let outputs = outputs(stdout.zip(io.stdout), stderr.zip(io.stderr));
            let ended = with_outputs(closed.wait(), outputs);
            tokio::select! {
                ended = ended => ended.map_err(failure),
                () = inputs(stdin.zip(io.stdin), terminal, io.resize) => Err(ended_early()),
            }
        };
        tokio::select! {
            ended = run => ended,
            () = gone.cancelled() => Err(ended_early()),
        }
    }

    async fn port_forward(&self, pod: &str, port: u16) -> Result<Pin<Box<dyn Duplex>>, Failure> {
        let stream = self.0.port_forward(pod, i32::from(port)).await.map_err(failure)?;
        // What comes in small pieces leaves in small pieces.
        stream.set_nodelay(true).map_err(|e| Failure::new(format_args!("port {port}: {e}")))?;
        Ok(Box::pin(stream))
    }
}

fn failure(error: Error) -> Failure {
    Failure::new(Chain(&error))
}

fn ended_early() -> Failure {
    Failure::new("the session was ended")
}

/// Waits for an end and all output, whichever comes first.
async fn with_outputs<T>(ended: impl Future<Output = T>, outputs: impl Future<Output = ()>) -> T {
    let (mut ended, mut outputs) = (pin!(ended), pin!(outputs));
    tokio::select! {
        () = &mut outputs => ended.await,
        ended = &mut ended => {
            let _slow = tokio::time::timeout(REST, outputs).await;
            ended
        }
    }
}

type Pair<A, B> = Option<(A, B)>;

/// Copies both outputs to their ends.
async fn outputs(
    stdout: Pair<cricket_pod::Output, cricket_streaming::Output>,
    stderr: Pair<cricket_pod::Output, cricket_streaming::Output>,
) {
    let copy = async |pair: Pair<cricket_pod::Output, cricket_streaming::Output>| {
        if let Some((mut from, mut to)) = pair
            && let Err(error) = to.copy_from(&mut from).await
        {
            tracing::debug!(%error, "output of a session");
        }
    };
    tokio::join!(copy(stdout), copy(stderr));
}

/// Passes on what the client types, and the size of its terminal; never ends by itself.
async fn inputs(
    stdin: Pair<cricket_pod::Input, cricket_streaming::Input>,
    terminal: Option<Terminal>,
    mut sizes: mpsc::Receiver<TerminalSize>,
) {
    let typed = async {
        let Some((mut to, mut from)) = stdin else { return };
        while let Ok(Some(chunk)) = from.chunk().await {
            if to.write_all(&chunk).await.is_err() {
                // Nobody reads it any more; the session goes on.
                return;
            }
        }
        let _closed = to.shutdown().await;
    };
    let resized = async {
        while let Some(TerminalSize { width, height }) = sizes.recv().await {
            if let Some(Err(error)) = terminal.as_ref().map(|t| t.resize(width, height)) {
                tracing::debug!(%error, width, height, "resize of a session's terminal");
            }
        }
    };
    tokio::join!(typed, resized);
    std::future::pending().await
}
