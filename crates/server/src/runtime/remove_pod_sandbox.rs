//! RemovePodSandbox.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::RemovePodSandboxRequest,
) -> Result<v1::RemovePodSandboxResponse, Error> {
    service.0.pods.remove_sandbox(&request.pod_sandbox_id).await?;
    Ok(v1::RemovePodSandboxResponse {})
}
