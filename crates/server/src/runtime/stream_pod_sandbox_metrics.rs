//! StreamPodSandboxMetrics: ListPodSandboxMetrics in pieces.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::pieces::{Streamed, read};

pub(super) async fn handle(
    service: &Service,
    _: v1::StreamPodSandboxMetricsRequest,
) -> Result<Streamed<v1::StreamPodSandboxMetricsResponse>, Error> {
    let metrics = service.0.pods.metrics();
    Ok(read(metrics, |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse { pod_sandbox_metrics }))
}
