//! ListContainers.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::convert::{container, filter};

pub(super) async fn handle(
    service: &Service,
    request: v1::ListContainersRequest,
) -> Result<v1::ListContainersResponse, Error> {
    Ok(v1::ListContainersResponse { containers: items(service, &request.filter.unwrap_or_default())? })
}

/// What the filter lets through, the newest first.
pub(super) fn items(service: &Service, filter: &v1::ContainerFilter) -> Result<Vec<v1::Container>, Error> {
    let mut containers = Vec::new();
    for pod in service.0.pods.list() {
        let sandbox = pod.record.sandbox.id.as_str();
        let wanted = pod.containers().filter(|c| filter::container(filter, sandbox, c));
        containers.extend(wanted.map(|c| container::item(sandbox, c)));
    }
    containers.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
    filter::unambiguous("container", &filter.id, containers.iter().map(|c| c.id.as_str()))?;
    filter::unambiguous("pod sandbox", &filter.pod_sandbox_id, containers.iter().map(|c| c.pod_sandbox_id.as_str()))?;
    Ok(containers)
}
