//! ListPodSandboxMetrics.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    _: v1::ListPodSandboxMetricsRequest,
) -> Result<v1::ListPodSandboxMetricsResponse, Error> {
    let metrics = service.0.pods.metrics();
    let pod_metrics = crate::blocking("read metrics", move || metrics.collect()).await?;
    Ok(v1::ListPodSandboxMetricsResponse { pod_metrics })
}
