//! RunPodSandbox.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::RunPodSandboxRequest,
) -> Result<v1::RunPodSandboxResponse, Error> {
    let config = request.config.ok_or_else(|| Error::invalid("the sandbox's config is missing"))?;
    let made = service.0.pods.run_sandbox(config, request.runtime_handler).await?;
    Ok(v1::RunPodSandboxResponse { pod_sandbox_id: made.tell() })
}
