//! PullImage.

use cricket_cri_api::v1;
use cricket_image::AuthConfig;
use cricket_model::Kinded;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(service: &Service, request: v1::PullImageRequest) -> Result<v1::PullImageResponse, Error> {
    let name = request.image.map(|spec| spec.image).unwrap_or_default();
    if name.is_empty() {
        return Err(Error::invalid("the image's name is empty"));
    }
    let auth = request.auth.map(|a| AuthConfig {
        username: a.username,
        password: a.password,
        auth: a.auth,
        server_address: a.server_address,
        identity_token: a.identity_token,
        registry_token: a.registry_token,
    });
    let pulled = service.0.images.pull(&name, auth).await;
    cricket_metrics::pull(pulled.as_ref().map(drop).map_err(Kinded::kind));
    let image = pulled.map_err(|e| Error::from_kinded(format_args!("pull {name:?}"), &e))?;
    Ok(v1::PullImageResponse { image_ref: image.id.to_string() })
}
