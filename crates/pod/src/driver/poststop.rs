//! Poststop hooks (OCI runtime-spec: runtime.md, "Lifecycle"): when a container that was launched has ended, before its
//! removal. Their failures are told in the log, and hold nothing up.
//!
//! ```text
//!  Idle ─ start recorded ─▶ Due ─ end, or removal: recorded, then run ─▶ Begun
//! ```
//!
//! Invariants: `Begun` is in the journal before the first hook runs, but in a removal where nothing can be written; they
//! run beside the driver, a removal waits for them, and they end by themselves (`launch` bounds them).

use std::sync::Arc;

use cricket_model::ContainerId;
use cricket_oci::oci_spec::runtime::Spec;
use cricket_process::fault::point;
use cricket_runtime::handlers::Handler;

use super::Driver;
use crate::error::{Error, Result};
use crate::record::{ContainerRecord, ContainerState, Poststop, SandboxRecord};
use crate::shared::{Shared, blocking};

/// What the record of a new container says of its hooks.
pub(super) fn of(spec: &Spec, handler: &dyn Handler) -> Poststop {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    let sees_to_them = || handler.poststop_config("", "".as_ref(), "".as_ref()).is_some();
    match hooks {
        Some(hooks) if !hooks.is_empty() && sees_to_them() => Poststop::Idle,
        _ => Poststop::Absent,
    }
}

impl Driver {
    /// Begins the hooks of a container that has ended. Whatever is under way for it goes first; its removal is the
    /// last that runs them.
    pub(super) fn begin_poststop(&mut self, id: &ContainerId) {
        let Ok(record) = self.container(id).cloned() else { return };
        let due = record.poststop == Poststop::Due && matches!(record.state, ContainerState::Exited(_));
        if !due || self.flights.has(id) {
            return;
        }
        let _ = self.edit(id, |c| c.poststop = Poststop::Begun);
        if let Err(e) = self.save() {
            tracing::warn!(container = %id, error = %e, "poststop hooks wait for the removal: nothing can be recorded");
            let _ = self.edit(id, |c| c.poststop = Poststop::Due);
            return self.publish();
        }
        point("poststop.recorded");
        let (shared, sandbox) = (self.shared.clone(), self.record.sandbox.clone());
        self.flights.begin_hooks(id.clone(), async move {
            run(&shared, &sandbox, &record).await;
            Ok(())
        });
    }

    /// Begins what an earlier daemon did not come to.
    pub(crate) fn begin_poststops(&mut self) {
        for id in self.record.containers.iter().map(|c| c.id.clone()).collect::<Vec<_>>() {
            self.begin_poststop(&id);
        }
    }

    /// They have ended.
    pub(super) fn poststop_ended(&mut self, id: &ContainerId) {
        self.flights.end(id);
    }
}

/// Runs the hooks that are due by this record.
pub(super) async fn run(shared: &Arc<Shared>, sandbox: &SandboxRecord, record: &ContainerRecord) {
    if record.poststop != Poststop::Due {
        return;
    }
    if let Err(e) = order(shared, sandbox, record).await {
        tracing::warn!(pod = %sandbox.id, container = %record.id, error = %e, "poststop hooks");
    }
}

async fn order(shared: &Arc<Shared>, sandbox: &SandboxRecord, record: &ContainerRecord) -> Result<()> {
    let handler = shared.handlers.get(&sandbox.handler).map_err(|e| Error::from_kinded("runtime handler", &e))?;
    let bundle = shared.bundle(&sandbox.id, &record.id);
    let Some(order) = handler.poststop_config(record.id.as_str(), &bundle, &shared.config.state) else { return Ok(()) };
    let shared = shared.clone();
    blocking("run the poststop hooks", move || crate::oneshot::run(&shared, &order)).await
}
