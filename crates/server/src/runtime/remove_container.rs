//! RemoveContainer.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::RemoveContainerRequest,
) -> Result<v1::RemoveContainerResponse, Error> {
    service.0.pods.remove_container(&request.container_id).await?;
    Ok(v1::RemoveContainerResponse {})
}
