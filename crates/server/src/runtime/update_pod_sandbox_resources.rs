//! UpdatePodSandboxResources: the kubelet sizes the pod's cgroup itself; a runtime only has to know (KEP-1287).

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::UpdatePodSandboxResourcesRequest,
) -> Result<v1::UpdatePodSandboxResourcesResponse, Error> {
    let (overhead, resources) = (request.overhead.unwrap_or_default(), request.resources.unwrap_or_default());
    service.0.pods.update_sandbox(&request.pod_sandbox_id, overhead, resources).await?;
    Ok(v1::UpdatePodSandboxResourcesResponse {})
}
