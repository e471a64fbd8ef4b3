//! When garbage is collected: at start, and after the networks' configuration has changed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cricket_model::SandboxId;

use crate::Cni;
use crate::cni::Inner;
use crate::gc::{Collected, PATIENCE};

/// How long the plugins may take for one collection.
const BUDGET: Duration = Duration::from_secs(15);

/// How long one that gave way stays away: on a busy node it would be ended over and over.
const AWAY: Duration = Duration::from_secs(1);

impl Cni {
    /// Runs [`Cni::gc`] now and after every change of a configuration directory, in the background, until the last
    /// clone is dropped. `valid` is asked each time for the pods that are known besides those with a record. A
    /// collection that fails or takes too long is logged and left to the next occasion: it only tidies up. One that
    /// gave way at once is tried again.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn collect_in_background(&self, valid: impl Fn() -> Vec<SandboxId> + Send + Sync + 'static) {
        let changed = Arc::clone(&self.0.changed);
        tokio::spawn(follow(Arc::downgrade(&self.0), changed, valid));
    }
}

async fn follow(
    client: Weak<Inner>,
    changed: Arc<tokio::sync::Notify>,
    valid: impl Fn() -> Vec<SandboxId> + Send + Sync,
) {
    loop {
        let Some(inner) = client.upgrade() else { return };
        let collected = Cni(inner).collect(BUDGET, &valid).await;
        match collected {
            Collected::Done(Ok(())) => {}
            Collected::Done(Err(e)) => tracing::warn!(error = %e, "network plugins could not collect what nobody uses"),
            Collected::GaveWay(after) if after < PATIENCE => {
                tokio::time::sleep(AWAY).await;
                continue;
            }
            Collected::GaveWay(after) => {
                tracing::warn!(?after, "network plugins took too long to collect what nobody uses");
            }
        }
        changed.notified().await;
    }
}
