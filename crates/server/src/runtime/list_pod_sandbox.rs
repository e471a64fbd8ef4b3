//! ListPodSandbox.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::convert::{filter, sandbox};

pub(super) async fn handle(
    service: &Service,
    request: v1::ListPodSandboxRequest,
) -> Result<v1::ListPodSandboxResponse, Error> {
    Ok(v1::ListPodSandboxResponse { items: items(service, &request.filter.unwrap_or_default())? })
}

/// What the filter lets through, the newest first.
pub(super) fn items(service: &Service, filter: &v1::PodSandboxFilter) -> Result<Vec<v1::PodSandbox>, Error> {
    let mut items: Vec<v1::PodSandbox> =
        service.0.pods.list().iter().filter(|pod| filter::sandbox(filter, pod)).map(|pod| sandbox::item(pod)).collect();
    items.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
    filter::unambiguous("pod sandbox", &filter.id, items.iter().map(|i| i.id.as_str()))?;
    Ok(items)
}
