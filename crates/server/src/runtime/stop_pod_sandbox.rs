//! StopPodSandbox.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::StopPodSandboxRequest,
) -> Result<v1::StopPodSandboxResponse, Error> {
    service.0.pods.stop_sandbox(&request.pod_sandbox_id).await?;
    Ok(v1::StopPodSandboxResponse {})
}
