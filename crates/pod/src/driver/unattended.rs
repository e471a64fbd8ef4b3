//! Containers that no monitor has: while theirs is lost and there is no other, the daemon watches their inits itself.
//! Signals and kills need no monitor; that a container has ended must be heard of without one, too.
//!
//! Invariants: an init has one watch at most, which ends with it; what a watch says counts only while no monitor has the
//! container, for a monitor knows more.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use cricket_model::ContainerId;
use cricket_process::ExitStatus;
use cricket_runtime::monitor::{ExitFacts, ExitRecord};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Driver;
use super::adopt::lost;
use super::flight::Done;
use crate::error::{Error, Result};
use crate::shared::exit_record;
use crate::view::Live;

/// The inits that are watched; true: no monitor has their container.
pub(crate) type Watches = HashMap<ContainerId, bool>;

/// A pidfd for the event loop, without another descriptor: there may be none left.
struct Init(Arc<Live>);

impl AsRawFd for Init {
    fn as_raw_fd(&self) -> RawFd {
        self.0.pidfd.as_raw_fd()
    }
}

impl Driver {
    /// Watches everything that runs: there is no monitor.
    pub(crate) fn watch_all(&mut self) {
        for id in self.live.keys().cloned().collect::<Vec<_>>() {
            self.watch(&id);
        }
    }

    /// Watches the container's init: no monitor has it.
    pub(super) fn watch(&mut self, id: &ContainerId) {
        let Some(live) = self.live.get(id).cloned() else { return };
        if self.watches.insert(id.clone(), true).is_none() {
            let of = id.clone();
            self.flights.beside(end_of(live), move |ended| Done::Unattended(of, ended));
        }
    }

    /// A monitor has the container again.
    pub(super) fn attended(&mut self, id: &ContainerId) {
        if let Some(unattended) = self.watches.get_mut(id) {
            *unattended = false;
        }
    }

    /// A watch has ended.
    pub(super) fn watched(&mut self, id: &ContainerId, ended: Result<Option<ExitStatus>>) {
        let unattended = self.watches.remove(id).unwrap_or_default();
        let status = match ended {
            // Whoever tries to find another monitor tries this again, too.
            Err(e) => return tracing::warn!(container = %id, error = %e, "the container's init is not watched"),
            Ok(status) if unattended => status,
            Ok(_) => return,
        };
        let bundle = self.shared.bundle(&self.record.sandbox.id, id);
        // The monitor may have seen it, and have ended before it told.
        let facts = match ExitRecord::read(&exit_record(&bundle)) {
            Ok(Some(facts)) => facts,
            _ => status.map_or_else(lost, facts),
        };
        self.exited(id, &facts);
    }
}

/// Waits for the end of a container's init; how it ended, where the kernel says so.
async fn end_of(live: Arc<Live>) -> Result<Option<ExitStatus>> {
    let failed = |e: std::io::Error| Error::internal("watch a container's init", &e);
    #[expect(deprecated, reason = "its successor is unsafe for types less strict than OwnedFd")]
    let init = AsyncFd::with_interest(Init(live), Interest::READABLE).map_err(failed)?;
    // Readable: it has ended.
    let _ended = init.readable().await.map_err(failed)?;
    init.get_ref().0.pidfd.exit_status().map_err(|e| Error::internal("read how a container's init ended", &e))
}

fn facts(status: ExitStatus) -> ExitFacts {
    let signal = match status {
        ExitStatus::Code(_) => None,
        ExitStatus::Signal(signal) => Some(signal.into()),
    };
    ExitFacts { exit_code: status.shell_code(), signal, unknown: false, ..lost() }
}
