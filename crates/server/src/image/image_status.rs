//! ImageStatus: an image that is not there is an empty answer, no error.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;
use crate::convert::{image, info};

pub(super) async fn handle(
    service: &Service,
    request: v1::ImageStatusRequest,
) -> Result<v1::ImageStatusResponse, Error> {
    let name = request.image.map(|spec| spec.image).unwrap_or_default();
    if name.is_empty() {
        return Err(Error::invalid("the image's name is empty"));
    }
    let found = service.0.images.find(&name).map_err(|e| Error::from_kinded("find image", &e))?;
    let info = match &found {
        Some(found) if request.verbose => info::image(found),
        _ => HashMap::new(),
    };
    Ok(v1::ImageStatusResponse { image: found.map(|i| image::item(&i)), info })
}
