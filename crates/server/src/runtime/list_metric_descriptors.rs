//! ListMetricDescriptors.

use cricket_cri_api::v1;
use cricket_pod::Error;

pub(super) async fn handle(_: v1::ListMetricDescriptorsRequest) -> Result<v1::ListMetricDescriptorsResponse, Error> {
    Ok(v1::ListMetricDescriptorsResponse { descriptors: cricket_pod::metric_descriptors() })
}
