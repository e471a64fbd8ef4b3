//! Changes that are completed whatever becomes of who asked for them.
//!
//! What is in memory and what is on the disk change in several steps. A caller may go away between them (a client that
//! hangs up drops its call), and a thread that writes does not hear of it: whoever stopped there would leave memory
//! without what the disk has.

use std::sync::Arc;

use super::Inner;
use crate::{Error, Result};

impl Inner {
    /// Runs `change` to its end; dropping this future does not stop it. Then the collector looks again, because leases of
    /// the caller may have kept it from something.
    pub(crate) async fn complete<T, F>(self: &Arc<Self>, what: &str, change: impl FnOnce(Arc<Self>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let caller = Arc::new(());
        let (waits, collect, change) = (Arc::downgrade(&caller), self.collect.clone(), change(self.clone()));
        let task = tokio::spawn(async move {
            let done = change.await;
            if waits.strong_count() == 0 {
                collect.notify_one();
            }
            done
        });
        let done = task.await;
        drop(caller);
        done.unwrap_or_else(|e| Err(Error::Ended { what: format!("{what}: {e}") }))
    }
}
