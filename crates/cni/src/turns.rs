//! One operation at a time for each sandbox, any number for different ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cricket_model::SandboxId;
use tokio::sync::OwnedMutexGuard;

type Locks = HashMap<SandboxId, Arc<tokio::sync::Mutex<()>>>;

/// The sandboxes with an operation running or waiting.
#[derive(Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<Locks>>);

/// Held while an operation runs; the next in line continues when it is dropped.
pub(crate) struct Turn {
    sandbox: SandboxId,
    locks: Arc<Mutex<Locks>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    pub(crate) async fn take(&self, sandbox: &SandboxId) -> Turn {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(sandbox.clone()).or_default())
        };
        // Made before waiting: whoever gives up while waiting cleans up, too.
        let mut turn = Turn { sandbox: sandbox.clone(), locks: Arc::clone(&self.0), guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Others clone the lock only under the map's lock: a count of one is the map's own.
        if locks.get(&self.sandbox).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.sandbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn same_sandbox_waits_and_nothing_is_left() {
        let turns = Turns::default();
        let (a, b) = (SandboxId::generate(), SandboxId::generate());
        let first = turns.take(&a).await;
        let _other = turns.take(&b).await;
        let mut second = Box::pin(turns.take(&a));
        assert!((&mut second).now_or_never().is_none());
        assert!(turns.take(&a).now_or_never().is_none());
        drop(first);
        drop(second.await);
        assert_eq!(turns.0.lock().expect("lock").len(), 1);
    }
}
