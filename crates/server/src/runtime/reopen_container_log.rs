//! ReopenContainerLog.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse, Error> {
    service.0.pods.reopen_log(&request.container_id).await?;
    Ok(v1::ReopenContainerLogResponse {})
}
