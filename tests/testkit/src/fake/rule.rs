//! How a [`super::FakeRegistry`] misbehaves: rules that match requests.

use super::Request;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

type Matcher = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// What is done instead of, or to, the true answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status with these headers and body.
    Status(u16, Vec<(String, String)>, Bytes),
    /// 307 to this URL; `{path}` in it becomes the request's path and query.
    Redirect(String),
    /// The true answer after a while.
    Delay(Duration),
    /// The true headers, `Content-Length` too, but only so many bytes of the
    /// body; then the connection is closed.
    Truncate(usize),
    /// The true status and content type with another body.
    Replace(Bytes),
    /// The true body with another `Content-Length`; then the connection is closed.
    ContentLength(u64),
    /// The true answer without a `Content-Length`, ended by closing the connection.
    UntilClose,
    /// The true answer in pieces of so many bytes, each after a while.
    Drip(usize, Duration),
    /// Headers and so many bytes of the body; then silence on an open connection.
    Stall(usize),
    /// Zeros without end after the true headers (chunked).
    Endless,
    /// The connection is closed without an answer.
    Close,
    /// No answer on an open connection.
    Silence,
    /// The whole content although a range was asked for.
    IgnoreRange,
}

/// A fault for the requests that match.
#[derive(Clone)]
pub struct Rule {
    matcher: Matcher,
    fault: Fault,
    skip: usize,
    times: usize,
}

impl Rule {
    /// The fault for every request that the function accepts.
    pub fn when(matcher: impl Fn(&Request) -> bool + Send + Sync + 'static, fault: Fault) -> Self {
        Self { matcher: Arc::new(matcher), fault, skip: 0, times: usize::MAX }
    }

    /// For every request below `/v2/`.
    pub fn always(fault: Fault) -> Self {
        Self::when(|request| request.path.starts_with("/v2/"), fault)
    }

    /// For manifests.
    pub fn manifests(fault: Fault) -> Self {
        Self::when(|request| request.path.contains("/manifests/"), fault)
    }

    /// For blobs, configurations too.
    pub fn blobs(fault: Fault) -> Self {
        Self::when(|request| request.path.contains("/blobs/"), fault)
    }

    /// For the blob of this digest.
    pub fn blob(digest: &str, fault: Fault) -> Self {
        let end = format!("/blobs/{digest}");
        Self::when(move |request| request.path.ends_with(&end), fault)
    }

    /// Only the first so many matches.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Not the first so many matches.
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// The fault, if this request is one for it; counts the match.
    pub(super) fn take(&mut self, request: &Request) -> Option<Fault> {
        if self.times == 0 || !(self.matcher)(request) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault.clone())
    }
}

impl Fault {
    /// A status without headers or body.
    pub fn status(code: u16) -> Self {
        Self::Status(code, Vec::new(), Bytes::new())
    }

    /// A status with a header.
    pub fn status_with(code: u16, header: &str, value: &str) -> Self {
        Self::Status(code, vec![(header.to_owned(), value.to_owned())], Bytes::new())
    }
}
