//! ContainerStatus.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::convert::{container, info};

pub(super) async fn handle(
    service: &Service,
    request: v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, Error> {
    let (pod, record) = service.0.pods.container(&request.container_id)?;
    let info = if request.verbose { info::container(service, &pod, &record).await } else { HashMap::new() };
    Ok(v1::ContainerStatusResponse { status: Some(container::status(&record)), info })
}
