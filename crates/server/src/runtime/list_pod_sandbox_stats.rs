//! ListPodSandboxStats.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::ListPodSandboxStatsRequest,
) -> Result<v1::ListPodSandboxStatsResponse, Error> {
    let stats = service.0.pods.sandboxes_stats(&request.filter.unwrap_or_default())?;
    Ok(v1::ListPodSandboxStatsResponse { stats: crate::blocking("read statistics", move || stats.collect()).await? })
}
