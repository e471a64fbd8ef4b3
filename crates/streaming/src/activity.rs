//! When something last happened on a connection: what idle timeouts and stalled clients are measured by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A clock that every frame in either direction sets back.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begin: Instant,
    /// Milliseconds after `begin`.
    last: AtomicU64,
}

impl Activity {
    /// Active now.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { begin: Instant::now(), last: AtomicU64::new(0) }))
    }

    /// Something happened.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.0.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
    }

    /// Ends once nothing has happened for `limit`; never for a limit of zero.
    pub(crate) async fn idle(&self, limit: Duration) {
        if limit.is_zero() {
            return std::future::pending().await;
        }
        loop {
            let last = self.0.begin + Duration::from_millis(self.0.last.load(Ordering::Relaxed));
            let until = last + limit;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_touch_sets_the_clock_back() {
        let activity = Activity::new();
        let other = activity.clone();
        let begin = Instant::now();
        let touches = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                other.touch();
            }
        };
        tokio::join!(activity.idle(Duration::from_millis(400)), touches);
        assert!(begin.elapsed() >= Duration::from_millis(850), "{:?}", begin.elapsed());
    }
}
