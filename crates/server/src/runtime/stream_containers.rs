//! StreamContainers: ListContainers in pieces.

use cricket_cri_api::v1;
use cricket_pod::Error;

use super::list_containers;
use crate::Service;
use crate::pieces::{Streamed, ready};

pub(super) async fn handle(
    service: &Service,
    request: v1::StreamContainersRequest,
) -> Result<Streamed<v1::StreamContainersResponse>, Error> {
    let containers = list_containers::items(service, &request.filter.unwrap_or_default())?;
    Ok(ready(containers, |containers| v1::StreamContainersResponse { containers }))
}
