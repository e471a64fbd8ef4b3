//! Exec.

use cricket_cri_api::v1;
use cricket_pod::Error;
use cricket_streaming::{ExecOrder, Streams};

use super::streams::{check, running, url};
use crate::Service;

pub(super) async fn handle(service: &Service, request: v1::ExecRequest) -> Result<v1::ExecResponse, Error> {
    let streams = Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty };
    check(streams)?;
    if request.cmd.is_empty() {
        return Err(Error::invalid("cmd is empty"));
    }
    let (_, container) = running(service, &request.container_id)?;
    let order = ExecOrder { container: container.id.to_string(), command: request.cmd, streams };
    Ok(v1::ExecResponse { url: url(service.0.streaming.exec(order))? })
}
