//! ContainerStats.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::ContainerStatsRequest,
) -> Result<v1::ContainerStatsResponse, Error> {
    let stats = service.0.pods.container_stats(&request.container_id).await?;
    Ok(v1::ContainerStatsResponse { stats: Some(stats) })
}
