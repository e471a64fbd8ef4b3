//! Readers between the download and the archive: fed by a channel, hashed, bounded.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use cricket_model::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::limits::Fault;
use crate::{Error, Result};

/// Chunks that may wait between the download and the unpacking thread.
const DEPTH: usize = 32;

/// The unpacking thread's end of a download. The other end's disappearance without [`Feed`]'s end mark is an error.
pub(crate) struct Feed {
    receiver: mpsc::Receiver<Option<Result<Bytes>>>,
    current: Bytes,
    ended: bool,
}

/// A bounded channel of chunks; send `None` at the end.
pub(crate) fn feed() -> (mpsc::Sender<Option<Result<Bytes>>>, Feed) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    (sender, Feed { receiver, current: Bytes::new(), ended: false })
}

impl Read for Feed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                Some(Some(Ok(bytes))) => self.current = bytes,
                Some(Some(Err(e))) => return Err(Fault::Failed(e).carry()),
                Some(None) => self.ended = true,
                None => return Err(Fault::Failed(Error::Cancelled { what: "download".to_owned() }).carry()),
            }
        }
        let n = buf.len().min(self.current.len());
        buf[..n].copy_from_slice(&self.current[..n]);
        self.current.advance(n);
        Ok(n)
    }
}

/// Ends a blob one byte behind its promised size: enough to notice that it is too long.
pub(crate) struct Sized<R> {
    inner: R,
    left: Option<u64>,
}

impl<R> Sized<R> {
    pub(crate) fn new(inner: R, size: Option<u64>) -> Self {
        Self { inner, left: size.map(|s| s.saturating_add(1)) }
    }
}

impl<R: Read> Read for Sized<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left else { return self.inner.read(buf) };
        let max = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.inner.read(&mut buf[..max])?;
        self.left = Some(left - n as u64);
        Ok(n)
    }
}

/// Hashes and counts what passes.
pub(crate) struct Hashing<R> {
    inner: R,
    hash: Sha256,
    count: u64,
}

impl<R> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    pub(crate) fn peek(&self) -> (Digest, u64) {
        (Digest::from_sha256(self.hash.clone().finalize().into()), self.count)
    }

    pub(crate) fn finish(self) -> (Digest, u64) {
        self.peek()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(&buf[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

/// Refuses more than so many bytes.
pub(crate) struct Bounded<R> {
    pub(crate) inner: R,
    pub(crate) left: u64,
    pub(crate) bound: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(Fault::bound("inflated archive", format!("{} bytes", self.bound)).carry()),
        }
        Ok(n)
    }
}

/// Reads to the end: digests are of everything, also of what follows the archive's end mark.
pub(crate) fn drain(reader: &mut impl Read) -> std::result::Result<(), Fault> {
    let mut buf = vec![0u8; 64 << 10];
    loop {
        match reader.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Fault::reading(e)),
        }
    }
}
