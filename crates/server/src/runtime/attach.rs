//! Attach.

use cricket_cri_api::v1;
use cricket_pod::Error;
use cricket_streaming::{AttachOrder, Streams};

use super::streams::{check, running, url};
use crate::Service;

pub(super) async fn handle(service: &Service, request: v1::AttachRequest) -> Result<v1::AttachResponse, Error> {
    let streams = Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty };
    check(streams)?;
    let (_, container) = running(service, &request.container_id)?;
    let order = AttachOrder { container: container.id.to_string(), streams };
    Ok(v1::AttachResponse { url: url(service.0.streaming.attach(order))? })
}
