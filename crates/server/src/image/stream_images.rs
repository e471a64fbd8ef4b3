//! StreamImages: ListImages in pieces.

use cricket_cri_api::v1;
use cricket_pod::Error;

use super::list_images;
use crate::Service;
use crate::pieces::{Streamed, ready};

pub(super) async fn handle(
    service: &Service,
    request: v1::StreamImagesRequest,
) -> Result<Streamed<v1::StreamImagesResponse>, Error> {
    let images = list_images::items(service, request.filter)?;
    Ok(ready(images, |images| v1::StreamImagesResponse { images }))
}
