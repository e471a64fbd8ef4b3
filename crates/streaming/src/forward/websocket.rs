//! Two channels for each port that the request names, 2n for its bytes and 2n + 1 for what went wrong; the first
//! message of each is the port, 16 bits, the low byte first. Each port is connected to once.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use super::{copy, told};
use crate::backend::{Backend, ForwardOrder};
use crate::link::{Limits, drive};
use crate::pipe::{Input, Output};
use crate::socket::Hangup;
use crate::websocket::{self, Channels, Codec};

/// Serves the connections until all have ended or the client goes.
pub(crate) async fn serve<B, T>(
    backend: Arc<B>,
    order: ForwardOrder,
    codec: Codec,
    socket: WebSocketStream<T>,
    hangup: Option<Hangup>,
    limits: Limits,
) where
    B: Backend,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let channels = Channels { version: 4, codec };
    let readable: Vec<_> = order.ports.iter().flat_map(|_| [true, false]).collect();
    let (reader, mut connection, inputs) =
        websocket::serve(socket, channels, &readable, limits.activity.clone(), hangup);
    let gone = CancellationToken::new();
    let work = async {
        let mut connections = JoinSet::new();
        let pod: Arc<str> = order.pod.into();
        for ((n, port), input) in (0u8..).zip(order.ports).zip(inputs.into_iter().step_by(2)) {
            let Some(input) = input else { continue };
            let (data, error) = (connection.output(2 * n), connection.output(2 * n + 1));
            connections.spawn(forward(backend.clone(), pod.clone(), port, input, [data, error]));
        }
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = gone.cancelled() => {}
        }
        drop(connections);
        connection.finish([]).await;
    };
    drive(&limits, &gone, reader.run(), work).await;
}

async fn forward<B: Backend>(
    backend: Arc<B>,
    pod: Arc<str>,
    port: u16,
    input: Input,
    [mut data, mut error]: [Output; 2],
) {
    let number = Bytes::copy_from_slice(&port.to_le_bytes());
    if data.send(number.clone()).await.is_err() || error.send(number).await.is_err() {
        return;
    }
    if let Err(failure) = copy(&backend, &pod, port, input, data).await {
        let _gone = error.send(told(&pod, port, &failure).into()).await;
    }
}
