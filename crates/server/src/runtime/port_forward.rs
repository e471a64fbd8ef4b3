//! PortForward.

use cricket_cri_api::v1;
use cricket_pod::{Error, SandboxState};
use cricket_streaming::ForwardOrder;

use super::streams::url;
use crate::Service;

pub(super) async fn handle(
    service: &Service,
    request: v1::PortForwardRequest,
) -> Result<v1::PortForwardResponse, Error> {
    if request.pod_sandbox_id.is_empty() {
        return Err(Error::invalid("pod_sandbox_id is empty"));
    }
    let pod = service.0.pods.pod(&request.pod_sandbox_id)?;
    let sandbox = &pod.record.sandbox;
    if sandbox.state != SandboxState::Ready {
        return Err(Error::precondition(format_args!("pod sandbox {} is not ready", sandbox.id.short())));
    }
    let port = |port: i32| {
        let number = u16::try_from(port).ok().filter(|port| *port != 0);
        number.ok_or_else(|| Error::invalid(format_args!("port {port} is not within 1 to 65535")))
    };
    let ports = request.port.into_iter().map(port).collect::<Result<_, _>>()?;
    let order = ForwardOrder { pod: sandbox.id.to_string(), ports };
    Ok(v1::PortForwardResponse { url: url(service.0.streaming.port_forward(order))? })
}
