//! RemoveImage: an unknown image is no error.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::RemoveImageRequest,
) -> Result<v1::RemoveImageResponse, Error> {
    let name = request.image.map(|spec| spec.image).unwrap_or_default();
    if name.is_empty() {
        return Err(Error::invalid("the image's name is empty"));
    }
    service.0.images.remove(&name).await.map_err(|e| Error::from_kinded(format_args!("remove {name:?}"), &e))?;
    Ok(v1::RemoveImageResponse {})
}
