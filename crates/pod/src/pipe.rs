//! Pipes of an exec's output, read without blocking and within a bound.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

/// A pipe: the reading end does not block, the writing end does, as commands expect.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::internal("make a pipe", &e))?;
    let flags = rustix::fs::fcntl_getfl(&read).map_err(|e| Error::internal("flags of a pipe", &e))?;
    rustix::fs::fcntl_setfl(&read, flags | rustix::fs::OFlags::NONBLOCK)
        .map_err(|e| Error::internal("flags of a pipe", &e))?;
    Ok((read, write))
}

/// What an exec may answer before it has to ask: most answers are shorter.
const FREE: usize = 64 << 10;
/// Execs that may have longer answers at a time; each holds at most its own bound. The others' commands wait at their
/// pipes, so that the daemon's memory stays bounded however many probes are chatty.
static GRANTS: Semaphore = Semaphore::const_new(4);

/// What the streams of one exec may keep, in bytes.
pub(crate) struct Budget {
    left: AtomicUsize,
    kept: AtomicUsize,
    grant: OnceCell<Option<SemaphorePermit<'static>>>,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(most), kept: AtomicUsize::new(0), grant: OnceCell::new() })
    }

    /// How much of a chunk is kept. Waits for a grant where more than the free part is wanted.
    async fn take(&self, wanted: usize) -> usize {
        let mut allowed = 0;
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            allowed = left.min(wanted);
            Some(left - allowed)
        });
        if self.kept.fetch_add(allowed, Ordering::Relaxed) + allowed > FREE {
            // It is never closed.
            self.grant.get_or_init(|| async { GRANTS.acquire().await.ok() }).await;
        }
        allowed
    }
}

/// A reader under way.
pub(crate) struct Reader {
    task: JoinHandle<()>,
    bytes: Arc<Mutex<Vec<u8>>>,
    /// It has bytes in hand that it may not keep yet.
    waiting: Arc<AtomicBool>,
}

/// Reads `fd` to its end. What exceeds the common `budget` is read and dropped, so that the writer never blocks for ever.
pub(crate) fn read(fd: OwnedFd, budget: Arc<Budget>) -> Reader {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let waiting = Arc::new(AtomicBool::new(false));
    let (kept, waits) = (bytes.clone(), waiting.clone());
    let task = tokio::spawn(async move {
        let Ok(mut pipe) = Receiver::from_owned_fd(fd) else { return };
        let mut chunk = vec![0u8; 64 << 10];
        while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
            waits.store(true, Ordering::Release);
            let allowed = budget.take(n).await;
            kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..allowed]);
            waits.store(false, Ordering::Release);
        }
    });
    Reader { task, bytes, waiting }
}

impl Reader {
    /// The bytes, when the pipe has ended or `limit` has passed: whoever still holds it is not waited for. The time in which
    /// the reader itself waits for a grant does not count.
    pub(crate) async fn finish(mut self, limit: Duration) -> Vec<u8> {
        while tokio::time::timeout(limit, &mut self.task).await.is_err() {
            if !self.waiting.load(Ordering::Acquire) {
                self.task.abort();
                break;
            }
        }
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_streams_share_the_bound() {
        let budget = Budget::new(100);
        let (a, aw) = pair().expect("pipe");
        let (b, bw) = pair().expect("pipe");
        let (a, b) = (read(a, budget.clone()), read(b, budget));
        rustix::io::write(&aw, &[1; 80]).expect("write");
        drop(aw);
        let a = a.finish(Duration::from_secs(5)).await;
        rustix::io::write(&bw, &[2; 80]).expect("write");
        drop(bw);
        let b = b.finish(Duration::from_secs(5)).await;
        assert_eq!((a.len(), b.len()), (80, 20));
    }

    #[tokio::test]
    async fn a_pipe_that_somebody_keeps_open_is_not_waited_for() {
        let (r, w) = pair().expect("pipe");
        let reader = read(r, Budget::new(100));
        rustix::io::write(&w, b"x").expect("write");
        assert_eq!(reader.finish(Duration::from_millis(50)).await, b"x");
        drop(w);
    }

    #[tokio::test]
    async fn long_answers_wait_for_each_other_and_lose_nothing() {
        let one = || async {
            let (r, w) = pair().expect("pipe");
            let budget = Budget::new(1 << 20);
            let reader = read(r, budget.clone());
            let write = tokio::task::spawn_blocking(move || {
                std::io::Write::write_all(&mut std::fs::File::from(w), &[7; 300_000])
            });
            write.await.expect("join").expect("write");
            // The bytes are counted as long as the budget is held.
            let bytes = reader.finish(Duration::from_millis(20)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(budget);
            bytes.len()
        };
        let all: tokio::task::JoinSet<usize> = (0..12).map(|_| one()).collect();
        assert_eq!(all.join_all().await, [300_000; 12]);
        assert_eq!(GRANTS.available_permits(), 4);
    }
}
