//! StartContainer.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::StartContainerRequest,
) -> Result<v1::StartContainerResponse, Error> {
    service.0.pods.start_container(&request.container_id).await?;
    Ok(v1::StartContainerResponse {})
}
