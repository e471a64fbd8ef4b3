//! A pod's monitor for what talks to it past the driver: execs, sessions, logs.

use std::os::fd::AsFd as _;
use std::time::Duration;

use cricket_process::Pidfd;
use cricket_runtime::monitor::MonitorClient;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};
use crate::pods::Pods;
use crate::record::SandboxState;
use crate::view::PodView;

/// How long a replacement for a monitor that died is waited for; it takes milliseconds.
const REPLACEMENT: Duration = Duration::from_secs(5);

impl Pods {
    /// The pod's monitor; one that has died is not asked, its replacement is waited for.
    ///
    /// # Errors
    /// `FailedPrecondition` when the pod is stopped, `Unavailable` when there is no other monitor in time.
    pub(crate) async fn monitor_of(&self, pod: &PodView) -> Result<MonitorClient> {
        if let Some(monitor) = pod.monitor.as_ref().filter(|m| lives(m)) {
            return Ok(monitor.clone());
        }
        let id = &pod.record.sandbox.id;
        let handle = self.handle(id.as_str())?;
        let deadline = Instant::now() + REPLACEMENT;
        loop {
            // Before the look: what is published in between is not missed.
            let mut published = handle.published.subscribe();
            let view = handle.view.load_full();
            match view.monitor.as_ref() {
                Some(monitor) if lives(monitor) => return Ok(monitor.clone()),
                None if view.record.sandbox.state != SandboxState::Ready && view.live.is_empty() => {
                    return Err(Error::precondition(format_args!("pod {id} has no monitor: it is stopped")));
                }
                _ => {}
            }
            if !matches!(timeout_at(deadline, published.changed()).await, Ok(Ok(()))) {
                let text = format_args!("pod {id}'s monitor is lost and has not been replaced");
                return Err(Error::new(cricket_model::ErrorKind::Unavailable, text));
            }
        }
    }
}

fn lives(monitor: &MonitorClient) -> bool {
    let process = monitor.pidfd().as_fd().try_clone_to_owned().ok().and_then(|fd| Pidfd::from_fd(fd).ok());
    process.is_some_and(|process| process.is_alive().unwrap_or(false))
}
