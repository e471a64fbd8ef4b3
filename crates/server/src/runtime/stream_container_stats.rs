//! StreamContainerStats: ListContainerStats in pieces.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::pieces::{Streamed, read};

pub(super) async fn handle(
    service: &Service,
    request: v1::StreamContainerStatsRequest,
) -> Result<Streamed<v1::StreamContainerStatsResponse>, Error> {
    let stats = service.0.pods.containers_stats(&request.filter.unwrap_or_default())?;
    Ok(read(stats, |container_stats| v1::StreamContainerStatsResponse { container_stats }))
}
