//! UpdatePodSandboxResources: the kubelet sizes the pod's cgroup itself; a runtime only has to know (KEP-1287).

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::UpdatePodSandboxResourcesRequest,
) -> Result<v1::UpdatePodSandboxResourcesResponse, Error> {
    service.0.pods.pod(&request.pod_sandbox_id)?;
    Ok(v1::UpdatePodSandboxResourcesResponse {})
}
