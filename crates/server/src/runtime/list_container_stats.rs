//! ListContainerStats.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::ListContainerStatsRequest,
) -> Result<v1::ListContainerStatsResponse, Error> {
    let stats = service.0.pods.containers_stats(&request.filter.unwrap_or_default())?;
    Ok(v1::ListContainerStatsResponse { stats: crate::blocking("read statistics", move || stats.collect()).await? })
}
