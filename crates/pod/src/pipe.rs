//! Pipes of an exec's output, read without blocking and within a bound.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

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
struct Budget {
    left: AtomicUsize,
    kept: AtomicUsize,
    grant: OnceCell<Option<SemaphorePermit<'static>>>,
}

impl Budget {
    fn new(most: usize) -> Self {
        Self { left: AtomicUsize::new(most), kept: AtomicUsize::new(0), grant: OnceCell::new() }
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

/// What was read of one stream.
#[derive(Default)]
struct Stream {
    bytes: Mutex<Vec<u8>>,
    /// It has bytes in hand that it may not keep yet.
    waiting: AtomicBool,
}

impl Stream {
    /// Reads `fd` to its end. What exceeds the `budget` is read and dropped, so that the writer never blocks for ever.
    async fn read(&self, fd: OwnedFd, budget: &Budget) {
        let mut chunk = Vec::with_capacity(CHUNK);
        // A pipe whose writers have gone already has its end in it, and is never waited for.
        loop {
            match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut chunk)) {
                Ok(1..) => self.keep(&mut chunk, budget).await,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Ok(0) | Err(_) => return,
            }
        }
        let Ok(mut pipe) = Receiver::from_owned_fd(fd) else { return };
        while let Ok(1..) = pipe.read_buf(&mut chunk).await {
            self.keep(&mut chunk, budget).await;
        }
    }

    async fn keep(&self, chunk: &mut Vec<u8>, budget: &Budget) {
        self.waiting.store(true, Ordering::Release);
        let allowed = budget.take(chunk.len()).await;
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..allowed]);
        self.waiting.store(false, Ordering::Release);
        chunk.clear();
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How much is read at a time.
const CHUNK: usize = 16 << 10;

/// How long the streams of a command are left alone: most commands have ended by then, with less output than a pipe takes.
/// Their ends would wake this process twice before the end of the command does, on the processor that it needs.
const REST: Duration = Duration::from_millis(10);

/// Reads both streams of a command until `ended` is ready and they have ended, in the task that asks: most answers are
/// short, and tasks of their own would be two more that other threads are woken for. Whoever still holds a pipe `limit`
/// after the end is not waited for; the time in which a reader itself waits for a grant does not count. An error of `ended`
/// ends it at once.
pub(crate) async fn collect<T>(
    ended: impl Future<Output = Result<T>>,
    [stdout, stderr]: [OwnedFd; 2],
    most: usize,
    limit: Duration,
) -> Result<(T, Vec<u8>, Vec<u8>)> {
    let budget = Budget::new(most);
    let (out, err) = (Stream::default(), Stream::default());
    let reading = async { tokio::join!(out.read(stdout, &budget), err.read(stderr, &budget)) };
    tokio::pin!(ended, reading);
    let mut whole = false;
    // First what makes the command start.
    let ended = match tokio::time::timeout(REST, &mut ended).await {
        Ok(ended) => ended?,
        Err(_) => loop {
            tokio::select! {
                biased;
                ended = &mut ended => break ended?,
                _ = &mut reading, if !whole => whole = true,
            }
        },
    };
    while !whole {
        whole = tokio::time::timeout(limit, &mut reading).await.is_ok()
            || !(out.waiting.load(Ordering::Acquire) || err.waiting.load(Ordering::Acquire));
    }
    Ok((ended, out.take(), err.take()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    #[tokio::test]
    async fn both_streams_share_the_bound() {
        let ((a, aw), (b, bw)) = (pair().expect("pipe"), pair().expect("pipe"));
        rustix::io::write(&aw, &[1; 80]).expect("write");
        drop(aw);
        // The second is written to when the first has been read.
        let later = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            rustix::io::write(&bw, &[2; 80]).expect("write");
            drop(bw);
            Ok(())
        };
        let ((), a, b) = collect(later, [a, b], 100, Duration::from_secs(5)).await.expect("output");
        assert_eq!((a, b), (vec![1; 80], vec![2; 20]));
    }

    #[tokio::test]
    async fn a_pipe_that_somebody_keeps_open_is_not_waited_for() {
        let ((a, aw), (b, bw)) = (pair().expect("pipe"), pair().expect("pipe"));
        rustix::io::write(&aw, b"x").expect("write");
        drop(bw);
        let (answer, a, b) = collect(ready(Ok(7)), [a, b], 100, Duration::from_millis(50)).await.expect("output");
        assert_eq!((answer, a, b), (7, b"x".to_vec(), Vec::new()));
        drop(aw);
    }

    #[tokio::test]
    async fn an_error_is_not_held_back_by_a_pipe_that_is_open() {
        let ((a, _aw), (b, _bw)) = (pair().expect("pipe"), pair().expect("pipe"));
        let lost = async { Err::<(), _>(Error::invalid("lost")) };
        let collected = collect(lost, [a, b], 100, Duration::from_secs(3600));
        assert!(tokio::time::timeout(Duration::from_secs(60), collected).await.expect("at once").is_err());
    }

    #[tokio::test]
    async fn long_answers_wait_for_each_other_and_lose_nothing() {
        let one = || async {
            let ((a, aw), (b, bw)) = (pair().expect("pipe"), pair().expect("pipe"));
            drop(bw);
            let write = tokio::task::spawn_blocking(move || {
                std::io::Write::write_all(&mut std::fs::File::from(aw), &[7; 300_000])
            });
            // Its end is not awaited: until others have read theirs, this one may not be read either.
            let limit = Duration::from_millis(500);
            let ((), a, _) = collect(ready(Ok(())), [a, b], 1 << 20, limit).await.expect("output");
            write.await.expect("join").expect("write");
            a.len()
        };
        let all: tokio::task::JoinSet<usize> = (0..12).map(|_| one()).collect();
        assert_eq!(all.join_all().await, [300_000; 12]);
        assert_eq!(GRANTS.available_permits(), 4);
    }
}
