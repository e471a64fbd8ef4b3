//! Pipes of an exec's output, read without blocking and within a bound.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
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

/// A reader under way.
pub(crate) struct Reader {
    task: JoinHandle<()>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

/// Reads `fd` to its end. What exceeds the common `budget` is read and dropped, so that the writer never blocks.
pub(crate) fn read(fd: OwnedFd, budget: Arc<AtomicUsize>) -> Reader {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = bytes.clone();
    let task = tokio::spawn(async move {
        let Ok(mut pipe) = Receiver::from_owned_fd(fd) else { return };
        let mut chunk = vec![0u8; 64 << 10];
        while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
            keep(&kept, &chunk[..n], &budget);
        }
    });
    Reader { task, bytes }
}

fn keep(kept: &Mutex<Vec<u8>>, chunk: &[u8], budget: &AtomicUsize) {
    let mut allowed = 0;
    let _ = budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        allowed = left.min(chunk.len());
        Some(left - allowed)
    });
    kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(&chunk[..allowed]);
}

impl Reader {
    /// The bytes, when the pipe has ended or `limit` has passed: whoever still holds it is not waited for.
    pub(crate) async fn finish(mut self, limit: Duration) -> Vec<u8> {
        if tokio::time::timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
        }
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_streams_share_the_bound() {
        let budget = Arc::new(AtomicUsize::new(100));
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
        let reader = read(r, Arc::new(AtomicUsize::new(100)));
        rustix::io::write(&w, b"x").expect("write");
        assert_eq!(reader.finish(Duration::from_millis(50)).await, b"x");
        drop(w);
    }
}
