//! The writing side of a connection, whatever its protocol, and how long a session waits for it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::pipe::{Command, Commands, OUTPUT_QUEUE, Output};

/// How long a session may take to end once it has been told to.
const GRACE: Duration = Duration::from_secs(10);
/// How long the rest of a session's output waits for a client that takes none of it.
const STALLED: Duration = Duration::from_secs(30);
/// How long the client's own end is waited for behind the last byte: closing a socket with unread bytes resets it,
/// and takes what is still on its way from the client.
const LINGER: Duration = Duration::from_secs(2);

/// A connection's writing task and the queue to it. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Link {
    commands: Commands,
    /// Set back when bytes have left.
    written: Activity,
    writer: JoinHandle<()>,
}

impl Link {
    /// Starts what writes.
    pub(crate) fn start<W>(writer: impl FnOnce(mpsc::Receiver<Command>, Activity) -> W) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (commands, queue) = mpsc::channel(OUTPUT_QUEUE);
        let written = Activity::new();
        let writer = tokio::spawn(writer(queue, written.clone()));
        Self { commands, written, writer }
    }

    /// The queue.
    pub(crate) fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// A stream's way to the client.
    pub(crate) fn output(&self, stream: u32) -> Output {
        Output::new(stream, self.commands.clone())
    }

    /// Sends the last commands and waits until they have been written, or the client takes nothing any more.
    pub(crate) async fn finish(&mut self, last: impl IntoIterator<Item = Command>) {
        self.written.touch();
        let Self { commands, writer, written } = self;
        let write = async {
            for command in last {
                if commands.send(command).await.is_err() {
                    break;
                }
            }
            let _ended = writer.await;
        };
        tokio::select! {
            () = write => {}
            () = written.idle(STALLED) => tracing::debug!("the client does not take the end of its session"),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// What ends a session from outside.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Frames in both directions.
    pub(crate) activity: Activity,
    /// A connection without frames for this long is ended; zero: never.
    pub(crate) idle: Duration,
    /// The daemon ends.
    pub(crate) shutdown: CancellationToken,
}

/// Runs a session's work while the client's frames are read. When the client, an idle timeout or the daemon's end comes
/// first, cancels `gone` and gives the work a while to come to its end.
pub(crate) async fn drive(
    limits: &Limits,
    gone: &CancellationToken,
    read: impl Future<Output = ()>,
    work: impl Future<Output = ()>,
) {
    let _whatever_happens = gone.clone().drop_guard();
    let mut read = pin!(read);
    let mut work = pin!(work);
    let mut reading = true;
    let why = tokio::select! {
        () = &mut work => {
            let _closed = tokio::time::timeout(LINGER, read).await;
            return;
        }
        () = &mut read => {
            reading = false;
            "the client is gone"
        }
        () = limits.activity.idle(limits.idle) => "nothing was sent for too long",
        () = limits.shutdown.cancelled() => "the daemon ends",
    };
    tracing::debug!(why, "session ends");
    gone.cancel();
    let rest = async {
        loop {
            tokio::select! {
                () = &mut work => break,
                () = &mut read, if reading => reading = false,
            }
        }
        if reading {
            let _closed = tokio::time::timeout(LINGER, read).await;
        }
    };
    if tokio::time::timeout(GRACE, rest).await.is_err() {
        tracing::warn!(why, "session did not end by itself");
    }
}
