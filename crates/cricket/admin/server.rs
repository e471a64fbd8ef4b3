//! The daemon's side.

use std::sync::Arc;
use std::time::Duration;

use cricket_pod::Pods;
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{Answer, Operation, Operators, Request, VERSION, receive, send};
use crate::config::Config;
use crate::serve::Requests;

/// Connections served at once.
const MOST: usize = 16;
/// How long a request may take to arrive.
const ARRIVE: Duration = Duration::from_secs(10);

/// Answers until it is dropped.
pub(crate) async fn serve(listener: UnixListener, pods: Pods, requests: Requests, config: Arc<Config>) {
    let shared = pods.shared();
    let (images, cni) = (shared.images.clone(), Some(shared.cni.clone()));
    let operators = Operators { images, cni, pods: Some(pods), config, store: None, left_before: 0 };
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
    let request: Value = tokio::time::timeout(ARRIVE, receive(&mut stream)).await??;
    let operation = match understand(request) {
        Ok(operation) => operation,
        Err(text) => return send(&mut stream, &Answer::Failed(text)).await,
    };
    tracing::info!(?operation, "operator's request");
    // Whoever asked may go away: then the work ends.
    let (mut from, mut to) = stream.split();
    let mut byte = [0u8; 1];
    tokio::select! {
        answer = operators.run(operation) => send(&mut to, &answer).await,
        _ = tokio::io::AsyncReadExt::read(&mut from, &mut byte) => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}

/// What is asked, if this daemon knows it: who asks may be newer.
fn understand(request: Value) -> Result<Operation, String> {
    let version = request.get("version").and_then(Value::as_u64);
    if version != Some(u64::from(VERSION)) {
        let version = version.map_or_else(|| "none".to_owned(), |v| v.to_string());
        return Err(format!("protocol version {version} is not known to this daemon: it has {VERSION}"));
    }
    serde_json::from_value::<Request>(request).map(|request| request.operation).map_err(|e| {
        let own = env!("CARGO_PKG_VERSION");
        format!("the daemon (version {own}) does not know this command, it is of another version than the command: {e}")
    })
}
