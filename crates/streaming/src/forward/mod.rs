//! Port forwarding: connections of a client into a pod, several over one connection of the client.

mod header;
mod pairs;
mod spdy;
mod websocket;

use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::backend::{Backend, Failure};
use crate::pipe::{CopyError, Input, Output};

pub(crate) use header::Request;
pub(crate) use spdy::{PROTOCOLS, serve as serve_spdy};
pub(crate) use websocket::serve as serve_websocket;

/// Connects to the port and copies in both directions until both have ended, or the client gave up.
///
/// Each direction ends by itself: a client that has sent its request may wait for the answer with its side closed.
async fn copy<B: Backend>(
    backend: &Arc<B>,
    pod: &str,
    port: u16,
    mut input: Input,
    mut output: Output,
) -> Result<(), Failure> {
    let connected = backend.port_forward(pod, port).await?;
    let (mut from, mut to) = tokio::io::split(connected);
    let upload = async {
        loop {
            // An error: the client has reset the stream, and wants no answer either.
            let Some(chunk) = input.chunk().await? else { break };
            if to.write_all(&chunk).await.is_err() {
                // The pod takes no more; what it still says goes to the client, what the client says nowhere.
                while input.chunk().await?.is_some() {}
                return Ok(());
            }
        }
        let _closed = to.shutdown().await;
        Ok::<_, std::io::Error>(())
    };
    let download = async {
        match output.copy_from(&mut from).await {
            Ok(()) => output.shutdown().await.map(Ok),
            Err(CopyError::Read(error)) => Ok(Err(Failure::new(format_args!("read from port {port}: {error}")))),
            Err(CopyError::Write(error)) => Err(error),
        }
    };
    match tokio::try_join!(upload, download) {
        Ok(((), ended)) => ended,
        // Nobody is there to be told.
        Err(_client) => Ok(()),
    }
}

/// What the client hears when a port cannot be forwarded.
fn told(pod: &str, port: u16, failure: &Failure) -> String {
    let text = format!("error forwarding port {port} to pod {pod}: {failure}");
    tracing::info!(pod, port, error = %failure, "port is not forwarded");
    text
}
