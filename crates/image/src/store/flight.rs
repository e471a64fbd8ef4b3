//! Work that several callers wait for and that ends with the last of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::{Error, Result};

/// Tells a flight from a later one under the same key.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Running work by key.
pub(crate) struct Flights<K, T> {
    running: Arc<Mutex<Running<K, T>>>,
}

type Running<K, T> = HashMap<K, (u64, Weak<Flight<T>>)>;

struct Flight<T> {
    result: watch::Receiver<Option<Result<T>>>,
    task: AbortHandle,
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<K, T> Flights<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the work under `key`, starting it if nobody did. Answers its result, and whether this call started it.
    /// When all who wait have dropped this future the work is aborted.
    pub(crate) async fn join<F>(&self, key: K, what: &str, work: impl FnOnce() -> F) -> (Result<T>, bool)
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (flight, started) = self.enter(key, work);
        let mut result = flight.result.clone();
        let outcome = match result.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        (outcome.unwrap_or_else(|| Err(Error::Ended { what: what.to_owned() })), started)
    }

    fn enter<F>(&self, key: K, work: impl FnOnce() -> F) -> (Arc<Flight<T>>, bool)
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(&key).and_then(|(_, weak)| weak.upgrade()) {
            return (flight, false);
        }
        running.retain(|_, (_, weak)| weak.strong_count() > 0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let (sender, result) = watch::channel(None);
        let (work, map, own) = (work(), self.running.clone(), key.clone());
        let task = tokio::spawn(async move {
            let outcome = work.await;
            let mut running = map.lock().unwrap_or_else(PoisonError::into_inner);
            if running.get(&own).is_some_and(|(s, _)| *s == serial) {
                running.remove(&own);
            }
            drop(running);
            let _ = sender.send(Some(outcome));
        });
        let flight = Arc::new(Flight { result, task: task.abort_handle() });
        running.insert(key, (serial, Arc::downgrade(&flight)));
        (flight, true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a step that fails fails the test")]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn callers_share_and_the_last_drop_aborts() {
        let flights = Flights::<&str, u32>::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let work = || {
            let runs = runs.clone();
            async move {
                runs.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(7)
            }
        };
        let (a, b) = tokio::join!(flights.join("k", "k", work), flights.join("k", "k", work));
        assert_eq!((a.0.unwrap(), b.0.unwrap(), a.1, b.1), (7, 7, true, false));
        assert_eq!(runs.load(Ordering::SeqCst), 1);

        struct Alarm(Arc<AtomicUsize>);
        impl Drop for Alarm {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let endless = || {
            let alarm = Alarm(dropped.clone());
            async move {
                let _alarm = alarm;
                std::future::pending::<Result<u32>>().await
            }
        };
        let both = async { tokio::join!(flights.join("e", "e", endless), flights.join("e", "e", endless)) };
        assert!(tokio::time::timeout(Duration::from_millis(20), both).await.is_err());
        tokio::time::timeout(Duration::from_secs(5), async {
            while dropped.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(flights.join("e", "e", work).await.0.unwrap(), 7);
    }
}
