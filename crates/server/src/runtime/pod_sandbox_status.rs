//! PodSandboxStatus.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_pod::{Error, now};

use crate::Service;
use crate::convert::{container, info, sandbox};

pub(super) async fn handle(
    service: &Service,
    request: v1::PodSandboxStatusRequest,
) -> Result<v1::PodSandboxStatusResponse, Error> {
    let pod = service.0.pods.pod(&request.pod_sandbox_id)?;
    let info = if request.verbose { info::sandbox(service, &pod) } else { HashMap::new() };
    Ok(v1::PodSandboxStatusResponse {
        status: Some(sandbox::status(&pod)),
        info,
        containers_statuses: pod.containers().map(|c| container::status(c)).collect(),
        timestamp: now(),
    })
}
