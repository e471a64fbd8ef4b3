//! The daemon's side.

use std::sync::Arc;
use std::time::Duration;

use cricket_pod::Pods;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{Answer, Operators, Request, VERSION, receive, send};
use crate::serve::Requests;

/// Connections served at once.
const MOST: usize = 16;
/// How long a request may take to arrive.
const ARRIVE: Duration = Duration::from_secs(10);

/// Answers until it is dropped.
pub(crate) async fn serve(listener: UnixListener, pods: Pods, requests: Requests) {
    let shared = pods.shared();
    let operators = Operators { images: shared.images.clone(), cni: Some(shared.cni.clone()), pods: Some(pods) };
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (operators, running) = (operators.clone(), requests.begin());
                tokio::spawn(async move {
                    if let Err(e) = answer(stream, &operators).await {
                        tracing::debug!(error = %e, "an operator's request came to nothing");
                    }
                    drop((place, running));
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "an operator's connection failed");
                // Out of descriptors: give others the time to close some.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

pub(super) async fn answer(mut stream: UnixStream, operators: &Operators) -> std::io::Result<()> {
    let request: Request = tokio::time::timeout(ARRIVE, receive(&mut stream)).await??;
    if request.version != VERSION {
        let text = format!("protocol version {} is not known to this daemon: it has {VERSION}", request.version);
        return send(&mut stream, &Answer::Failed(text)).await;
    }
    tracing::info!(operation = ?request.operation, "operator's request");
    // Whoever asked may go away: then the work ends.
    let (mut from, mut to) = stream.split();
    let mut byte = [0u8; 1];
    tokio::select! {
        answer = operators.run(request.operation) => send(&mut to, &answer).await,
        _ = tokio::io::AsyncReadExt::read(&mut from, &mut byte) => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}
