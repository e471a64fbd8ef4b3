//! The channels have fixed numbers.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use super::{Ends, Remote, run};
use crate::backend::Backend;
use crate::link::{Limits, drive};
use crate::socket::Hangup;
use crate::websocket::{self, Channels};

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;

/// Serves the whole session.
pub(crate) async fn serve<B, T>(
    backend: Arc<B>,
    remote: Remote,
    channels: Channels,
    socket: WebSocketStream<T>,
    hangup: Option<Hangup>,
    limits: Limits,
) where
    B: Backend,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wanted = remote.streams();
    // stdin and resize.
    let readable = [wanted.stdin, false, false, false, true];
    let (reader, mut connection, inputs) =
        websocket::serve(socket, channels, &readable, limits.activity.clone(), hangup);
    let mut inputs = inputs.into_iter();
    let (stdin, resize) = (inputs.next().flatten(), inputs.next_back().flatten());
    let gone = CancellationToken::new();
    let work = async {
        let output = |channel: u8, wanted: bool| wanted.then(|| connection.output(channel));
        let (stdout, stderr) = (output(STDOUT, wanted.stdout), output(STDERR, wanted.stderr));
        // An empty message tells clients that the session is there.
        let first = if wanted.stdout {
            STDOUT
        } else if wanted.stderr {
            STDERR
        } else {
            ERROR
        };
        let _gone = connection.output(first).send(Bytes::new()).await;
        let version = channels.version;
        let ends = Ends { stdin, stdout, stderr, resize, error: u32::from(ERROR), outputs: Vec::new(), version };
        let last = run(&backend, remote, ends, &gone).await;
        connection.finish(last).await;
    };
    drive(&limits, &gone, reader.run(), work).await;
}
