//! One log line for each RPC that changes something or fails, with its duration.

use std::future::Future;
use std::time::Instant;

use cricket_pod::Error;
use tonic::{Response, Status};

use crate::code::status;

/// RPCs that kubelets call all the time: logged only when they fail.
const QUIET: [&str; 13] = [
    "Version",
    "Status",
    "PodSandboxStatus",
    "ListPodSandbox",
    "ListContainers",
    "ContainerStatus",
    "ContainerStats",
    "ListContainerStats",
    "PodSandboxStats",
    "ListPodSandboxStats",
    "ListImages",
    "ImageStatus",
    "ImageFsInfo",
];

/// Runs a handler, logs it, and turns its error into a status.
pub(crate) async fn answer<T>(
    rpc: &'static str,
    handler: impl Future<Output = Result<T, Error>>,
) -> Result<Response<T>, Status> {
    let begin = Instant::now();
    let result = handler.await;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    match result {
        Ok(response) => {
            if QUIET.contains(&rpc) || rpc == "ExecSync" {
                tracing::debug!(rpc, ms, "answered");
            } else {
                tracing::info!(rpc, ms, "answered");
            }
            Ok(Response::new(response))
        }
        Err(e) => {
            let status = status(&e);
            tracing::warn!(rpc, ms, code = ?status.code(), error = %e, "failed");
            Err(status)
        }
    }
}
