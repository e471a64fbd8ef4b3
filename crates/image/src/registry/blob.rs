//! A layer's bytes as they come, over as many connections as it takes.
//!
//! ```text
//!            ┌──────────── broken: wait, try again from `offset` ────────────┐
//! open ─▶ answer checked ─▶ chunks ─▶ … ─▶ end at exactly `size` bytes       │
//!   ▲                          └─ stalled, refused, or tried too often ─▶ next endpoint, until none is left
//! ```
//!
//! Invariants: the bytes handed out are consecutive from the offset asked for, and never more than the descriptor's
//! size. Whether they are the right ones only their reader can tell, by hashing.

use std::time::Duration;

use bytes::{Buf, Bytes};
use cricket_model::Digest;
use http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::RegistryError;
use super::failure::{Cause, Failure, Failures};
use super::source::Source;
use super::transport::Body;

/// So many bytes between two breaks make the next one the first again.
const GOOD_STRETCH: u64 = 1 << 20;
/// The first pause before a transfer is taken up again; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// The bytes of one blob, from the offset asked for. Dropping it ends the transfer.
pub struct BlobStream {
    source: Source,
    digest: Digest,
    size: u64,
    /// The next byte to hand out.
    offset: u64,
    /// Endpoints still to be asked, the current one first.
    endpoints: Vec<usize>,
    /// The open transfer, and how many of its bytes are already handed out.
    body: Option<(Body, u64)>,
    /// Breaks at the current endpoint since the last good stretch.
    breaks: u32,
    /// Where the current stretch began.
    stretch: u64,
    /// Whether the current endpoint may be asked for a part.
    ranges: bool,
    failures: Failures,
    window: Window,
}

impl BlobStream {
    /// Opens the transfer at the first endpoint that has the blob.
    pub(crate) async fn open(source: Source, digest: Digest, size: u64, offset: u64) -> Result<Self, RegistryError> {
        let endpoints = source.order(|e| e.pull);
        let window = Window::new(source.config().progress_timeout, source.config().progress_bytes);
        let mut stream = Self {
            source,
            digest,
            size,
            offset,
            endpoints,
            body: None,
            breaks: 0,
            stretch: offset,
            ranges: true,
            failures: Failures::default(),
            window,
        };
        if offset > size {
            let cause = format!("offset {offset} is beyond its {size} bytes");
            return Err(RegistryError::Invalid { what: stream.what(), cause });
        }
        stream.ensure_open().await?;
        Ok(stream)
    }

    /// Where the next chunk begins in the blob.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes, never empty; none once all `size` bytes were handed out. May be called again after its future
    /// was dropped.
    ///
    /// # Errors
    /// Every endpoint failed; a stream that failed stays failed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            self.ensure_open().await?;
            let Some((body, skip)) = &mut self.body else { return Ok(None) };
            let failure = match self.window.watch(body.chunk()).await {
                Ok(Some(mut bytes)) => {
                    self.window.count(bytes.len() as u64);
                    let skipped = (*skip).min(bytes.len() as u64);
                    *skip -= skipped;
                    bytes.advance(skipped as usize);
                    let left = self.size - self.offset;
                    if bytes.is_empty() {
                        continue;
                    }
                    if bytes.len() as u64 > left {
                        Failure::new(Cause::Invalid, format!("more than the {} bytes of the blob", self.size))
                    } else {
                        self.offset += bytes.len() as u64;
                        cricket_metrics::pulled(bytes.len() as u64);
                        if self.offset == self.size {
                            self.body = None;
                        }
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => Failure::new(Cause::Unavailable, format!("the transfer ended {}", self.position())),
                Err(failure) => Failure::new(failure.cause, format!("{} {}", failure.text, self.position())),
            };
            self.broke(failure);
        }
    }

    fn position(&self) -> String {
        format!("after {} of {} bytes", self.offset, self.size)
    }

    fn what(&self) -> String {
        format!("{} (blob {})", self.source.reference(), self.digest)
    }

    /// Has a transfer open unless everything was handed out, going through the endpoints.
    async fn ensure_open(&mut self) -> Result<(), RegistryError> {
        while self.body.is_none() && self.offset < self.size {
            let Some(&index) = self.endpoints.first() else {
                return Err(self.failures.clone().into_error(self.what()));
            };
            if self.breaks > 0 {
                tokio::time::sleep((PAUSE * 2u32.saturating_pow(self.breaks - 1)).min(MAX_PAUSE)).await;
            }
            match self.request(index).await {
                Ok(body) => self.body = Some(body),
                Err(failure) => self.broke(failure),
            }
        }
        Ok(())
    }

    /// Decides whether the current endpoint gets another try.
    fn broke(&mut self, failure: Failure) {
        let opened = self.body.take().is_some();
        self.window.restart();
        let Some(&index) = self.endpoints.first() else { return };
        if self.offset - self.stretch >= GOOD_STRETCH {
            self.breaks = 0;
        }
        if failure.cause == Cause::Range && std::mem::take(&mut self.ranges) {
            // A cache with a part of the blob, say: it may have the whole all the same.
            self.stretch = self.offset;
            return;
        }
        // An endpoint that never began is left at once; only a broken transfer is worth another try.
        let begun = opened || self.breaks > 0;
        let retry = failure.cause == Cause::Unavailable && begun && self.breaks < self.source.config().resumes;
        self.failures.add(&self.source.endpoint(index).label, failure);
        self.stretch = self.offset;
        if retry {
            self.breaks += 1;
        } else {
            self.endpoints.remove(0);
            self.breaks = 0;
            self.ranges = true;
        }
    }

    /// Asks an endpoint for the rest of the blob; the answer's body with the number of bytes to leave out.
    async fn request(&self, index: usize) -> Result<(Body, u64), Failure> {
        let mut headers = HeaderMap::new();
        if self.offset > 0 && self.ranges {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.offset));
            headers.extend(range.ok().map(|value| (RANGE, value)));
        }
        let path = format!("blobs/{}", self.digest);
        let repository = self.source.reference().repository();
        let endpoint = self.source.endpoint(index);
        let body = endpoint.request(Method::GET, repository, &path, &headers).await?;
        let wrong = |text: String| Err(Failure::new(Cause::Invalid, text));
        let skip = match body.status() {
            206 if self.offset > 0 && self.ranges => {
                let range = body.header(CONTENT_RANGE).unwrap_or_default();
                if !range_matches(range, self.offset, self.size) {
                    return wrong(format!("the range {range:?} instead of {} to {}", self.offset, self.size));
                }
                0
            }
            // The server ignored the range, or was asked for none: what is here already is passed over.
            200 => self.offset,
            status => return wrong(format!("unexpected status {status} for a blob")),
        };
        let want = self.size - (self.offset - skip);
        match body.length() {
            Some(length) if length != want => wrong(format!("a length of {length} bytes, the manifest says {want}")),
            _ => Ok((body, skip)),
        }
    }
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobStream")
            .field("digest", &self.digest)
            .field("offset", &self.offset)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Whether `Content-Range` (RFC 9110, 14.4) is from `offset` to the end of `size` bytes.
pub(super) fn range_matches(range: &str, offset: u64, size: u64) -> bool {
    let Some((span, total)) = range.trim().strip_prefix("bytes ").and_then(|r| r.split_once('/')) else {
        return false;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let Some((first, last)) = span.split_once('-') else { return false };
    number(first) == Some(offset)
        && number(last).is_some_and(|l| l.checked_add(1) == Some(size))
        && (total.trim() == "*" || number(total) == Some(size))
}

/// Requires a number of bytes in each stretch of waiting time. Time in which nobody asks for bytes does not count: a
/// reader that is slow must not look like a slow registry.
struct Window {
    length: Duration,
    least: u64,
    waited: Duration,
    got: u64,
}

impl Window {
    fn new(length: Duration, least: u64) -> Self {
        Self { length, least: least.max(1), waited: Duration::ZERO, got: 0 }
    }

    fn restart(&mut self) {
        (self.waited, self.got) = (Duration::ZERO, 0);
    }

    fn count(&mut self, bytes: u64) {
        self.got += bytes;
    }

    /// Waits for `read`, as long as the window and its successors allow.
    async fn watch<T>(&mut self, read: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        if self.length.is_zero() {
            return read.await;
        }
        tokio::pin!(read);
        loop {
            let start = Instant::now();
            let result = tokio::time::timeout(self.length.saturating_sub(self.waited), &mut read).await;
            self.waited += start.elapsed();
            if self.waited >= self.length {
                if self.got < self.least {
                    let text = format!("{} bytes in {} s", self.got, self.length.as_secs_f32());
                    return Err(Failure::new(Cause::TimedOut, format!("no progress: {text}")));
                }
                self.restart();
            }
            if let Ok(result) = result {
                return result;
            }
        }
    }
}
