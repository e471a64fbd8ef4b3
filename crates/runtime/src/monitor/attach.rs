//! Sessions that attach to a container's stdio.

use std::os::fd::AsFd;

use cricket_wire::{ATTACH_VERSION, Attach, Code, DetachReason, RequestKind, ResponseKind, Stream};

use super::client::{ANSWER_TIMEOUT, MonitorClient, unexpected};
use super::connection::Pending;
use super::{AttachRequest, MonitorError};

/// A session that is attached. It ends when both sides have closed the pipes, whether or not this is kept.
pub struct Session(Pending);

impl Session {
    /// Waits until the session is over.
    ///
    /// # Errors
    /// [`MonitorError::Lost`] when the monitor died, which ends the session as well.
    pub async fn ended(mut self) -> Result<DetachReason, MonitorError> {
        match self.0.next().await? {
            (ResponseKind::Detached(detached), _) => Ok(detached.reason()),
            (other, _) => Err(unexpected(&other)),
        }
    }
}

impl MonitorClient {
    /// Attaches a session to a running container's stdio. The pipes are the session: the monitor closes its ends when
    /// the container has ended and everything was delivered, and lets the session go when the other ends are closed.
    ///
    /// # Errors
    /// [`MonitorError::Unsupported`] when the monitor is older than sessions.
    pub async fn attach(&self, request: AttachRequest) -> Result<Session, MonitorError> {
        let unsupported = MonitorError::Unsupported { request: "attach" };
        if self.version() < ATTACH_VERSION {
            return Err(unsupported);
        }
        let streams =
            [(Stream::Stdin, &request.stdin), (Stream::Stdout, &request.stdout), (Stream::Stderr, &request.stderr)];
        let given = || streams.iter().filter_map(|(stream, fd)| Some((stream, fd.as_ref()?)));
        let attach = Attach {
            container_id: request.container.clone(),
            streams: given().map(|(stream, _)| i32::from(*stream)).collect(),
        };
        let fds: Vec<_> = given().map(|(_, fd)| fd.as_fd()).collect();
        let attached = async {
            let mut pending = self.connection().request(RequestKind::Attach(attach), &fds, false).await?;
            match pending.next().await {
                Ok((ResponseKind::Attached(_), _)) => Ok(Session(pending)),
                Ok((other, _)) => Err(unexpected(&other)),
                Err(MonitorError::Refused { code: Code::Unknown, .. }) => Err(unsupported),
                Err(error) => Err(error),
            }
        };
        let late = MonitorError::TimedOut { request: "attach", seconds: ANSWER_TIMEOUT.as_secs() };
        tokio::time::timeout(ANSWER_TIMEOUT, attached).await.unwrap_or(Err(late))
    }
}
