//! UpdateContainerResources.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::UpdateContainerResourcesRequest,
) -> Result<v1::UpdateContainerResourcesResponse, Error> {
    let resources = request.linux.unwrap_or_default();
    service.0.pods.update_container(&request.container_id, resources).await?;
    Ok(v1::UpdateContainerResourcesResponse {})
}
