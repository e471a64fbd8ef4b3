//! ExecSync.

use std::time::Duration;

use cricket_cri_api::v1;
use cricket_pod::Error;

use crate::Service;

pub(super) async fn handle(service: &Service, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse, Error> {
    let seconds = u64::try_from(request.timeout)
        .map_err(|_| Error::invalid(format_args!("timeout {} s is negative", request.timeout)))?;
    let limit = (seconds > 0).then(|| Duration::from_secs(seconds));
    let done = service.0.pods.exec_sync(&request.container_id, &request.cmd, limit).await?;
    Ok(v1::ExecSyncResponse { stdout: done.stdout, stderr: done.stderr, exit_code: done.exit_code })
}
