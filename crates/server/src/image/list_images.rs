//! ListImages.

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::convert::image;

pub(super) async fn handle(service: &Service, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse, Error> {
    Ok(v1::ListImagesResponse { images: items(service, request.filter)? })
}

/// All images, or the one that the filter names.
pub(super) fn items(service: &Service, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Error> {
    let wanted = filter.and_then(|f| f.image).map(|spec| spec.image).unwrap_or_default();
    let images = if wanted.is_empty() {
        service.0.images.list()
    } else {
        let found = service.0.images.find(&wanted).map_err(|e| Error::from_kinded("find image", &e))?;
        found.into_iter().collect()
    };
    Ok(images.iter().map(|i| image::item(i)).collect())
}
