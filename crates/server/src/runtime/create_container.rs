//! CreateContainer.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::CreateContainerRequest,
) -> Result<v1::CreateContainerResponse, Error> {
    let config = request.config.ok_or_else(|| Error::invalid("the container's config is missing"))?;
    let sandbox = request.sandbox_config.ok_or_else(|| Error::invalid("the sandbox's config is missing"))?;
    let made = service.0.pods.create_container(&request.pod_sandbox_id, config, sandbox).await?;
    Ok(v1::CreateContainerResponse { container_id: made.tell() })
}
