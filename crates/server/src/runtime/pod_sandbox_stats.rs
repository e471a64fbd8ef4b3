//! PodSandboxStats.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::PodSandboxStatsRequest,
) -> Result<v1::PodSandboxStatsResponse, Error> {
    let stats = service.0.pods.sandbox_stats(&request.pod_sandbox_id).await?;
    Ok(v1::PodSandboxStatsResponse { stats: Some(stats) })
}
