//! StreamPodSandboxStats: ListPodSandboxStats in pieces.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::pieces::{Streamed, read};

pub(super) async fn handle(
    service: &Service,
    request: v1::StreamPodSandboxStatsRequest,
) -> Result<Streamed<v1::StreamPodSandboxStatsResponse>, Error> {
    let stats = service.0.pods.sandboxes_stats(&request.filter.unwrap_or_default())?;
    Ok(read(stats, |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats }))
}
