//! Version.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

/// The version of the kubelet's runtime API that every runtime answers.
const KUBE_API_VERSION: &str = "0.1.0";

pub(super) async fn handle(service: &Service, _: v1::VersionRequest) -> Result<v1::VersionResponse, Error> {
    Ok(v1::VersionResponse {
        version: KUBE_API_VERSION.into(),
        runtime_name: "cricket".into(),
        runtime_version: service.0.config.version.clone(),
        runtime_api_version: "v1".into(),
    })
}
