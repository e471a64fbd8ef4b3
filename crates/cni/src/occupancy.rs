//! Who is at work: ADDs and DELs side by side, or one collection alone (specification 1.1.0, section "GC: Clean up any
//! stale resources": the runtime executes either GC, or ADD and DEL).
//!
//! Invariants: nobody waits for a collection that has not begun, however long that waits; one that has begun gives way
//! to whoever has waited long enough.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// The operations under way.
#[derive(Debug, Default)]
pub(crate) struct Occupancy(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    /// ADDs and DELs.
    users: usize,
    collecting: bool,
    /// The collection keeps somebody waiting for too long.
    unwelcome: bool,
}

/// Held while an ADD or a DEL runs.
pub(crate) struct Together<'a>(&'a Occupancy);

/// Held while a collection runs.
pub(crate) struct Alone<'a>(&'a Occupancy);

impl Occupancy {
    /// Begins an ADD or DEL. A collection that runs is waited for this long, then told to give way.
    pub(crate) async fn together(&self, patience: Duration) -> Together<'_> {
        let mut state = self.0.subscribe();
        let deadline = Instant::now() + patience;
        loop {
            let entered = self.0.send_if_modified(|state| {
                state.users += usize::from(!state.collecting);
                !state.collecting
            });
            if entered {
                return Together(self);
            }
            if timeout_at(deadline, state.wait_for(|state| !state.collecting)).await.is_err() {
                self.0.send_if_modified(|state| state.collecting && !std::mem::replace(&mut state.unwelcome, true));
                // The sender is ours: it does not close.
                let _ = state.wait_for(|state| !state.collecting).await;
            }
        }
    }

    /// Begins a collection as soon as nothing runs.
    pub(crate) async fn alone(&self) -> Alone<'_> {
        let mut state = self.0.subscribe();
        let idle = |state: &State| state.users == 0 && !state.collecting;
        loop {
            let entered = self.0.send_if_modified(|state| {
                let entered = idle(state);
                if entered {
                    (state.collecting, state.unwelcome) = (true, false);
                }
                entered
            });
            if entered {
                return Alone(self);
            }
            let _ = state.wait_for(idle).await;
        }
    }
}

impl Alone<'_> {
    /// Returns when the collection has to give way.
    pub(crate) async fn unwelcome(&self) {
        let _ = self.0.0.subscribe().wait_for(|state| state.unwelcome).await;
    }
}

impl Drop for Together<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.users -= 1);
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.collecting = false);
    }
}
