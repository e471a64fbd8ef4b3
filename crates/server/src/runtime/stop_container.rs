//! StopContainer.

use std::time::Duration;

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::StopContainerRequest,
) -> Result<v1::StopContainerResponse, Error> {
    let seconds = u64::try_from(request.timeout)
        .map_err(|_| Error::invalid(format_args!("timeout {} s is negative", request.timeout)))?;
    service.0.pods.stop_container(&request.container_id, Duration::from_secs(seconds)).await?;
    Ok(v1::StopContainerResponse {})
}
