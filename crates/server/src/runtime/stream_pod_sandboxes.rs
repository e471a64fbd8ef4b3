//! StreamPodSandboxes: ListPodSandbox in pieces.

use cricket_cri_api::v1;
use cricket_pod::Error;

use super::list_pod_sandbox;
use crate::Service;
use crate::pieces::{Streamed, ready};

pub(super) async fn handle(
    service: &Service,
    request: v1::StreamPodSandboxesRequest,
) -> Result<Streamed<v1::StreamPodSandboxesResponse>, Error> {
    let sandboxes = list_pod_sandbox::items(service, &request.filter.unwrap_or_default())?;
    Ok(ready(sandboxes, |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes }))
}
