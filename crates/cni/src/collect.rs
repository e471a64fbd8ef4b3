//! When garbage is collected: at start, and after the networks' configuration has changed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cricket_model::SandboxId;

use crate::Cni;
use crate::cni::Inner;

/// How long one collection may take, the wait for running ADDs and DELs included: no new ones start meanwhile.
const BUDGET: Duration = Duration::from_secs(15);

impl Cni {
    /// Runs [`Cni::gc`] now and after every change of a configuration directory, in the background, until the last
    /// clone is dropped. `valid` are the pods that are known besides those with a record. A collection that fails or
    /// takes too long is logged and left to the next occasion: it only tidies up.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn collect_in_background(&self, valid: Vec<SandboxId>) {
        let changed = Arc::clone(&self.0.changed);
        tokio::spawn(follow(Arc::downgrade(&self.0), changed, valid));
    }
}

async fn follow(client: Weak<Inner>, changed: Arc<tokio::sync::Notify>, valid: Vec<SandboxId>) {
    loop {
        let Some(inner) = client.upgrade() else { return };
        match tokio::time::timeout(BUDGET, Cni(inner).gc(&valid)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!(error = %e, "network plugins could not collect what nobody uses"),
            Err(_) => tracing::warn!(limit = ?BUDGET, "network plugins took too long to collect what nobody uses"),
        }
        changed.notified().await;
    }
}
