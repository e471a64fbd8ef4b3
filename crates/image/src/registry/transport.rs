//! One HTTP exchange with an endpoint or its token server: client choice, redirects, bounded bodies.
//!
//! Redirects are followed by hand, because what may travel along is decided at each hop: the endpoint's secrets
//! (`Authorization`, configured headers) stay with its origin and are never added again once left.

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::failure::{Cause, Failure};
use super::hosts::clients::Clients;

/// Most hops of one request.
const MAX_REDIRECTS: usize = 10;

/// The body and head of an answer.
pub(crate) struct Body {
    response: reqwest::Response,
    /// Whether another origin than the endpoint's answered.
    foreign: bool,
}

impl Body {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// One header as text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers().get(name).and_then(|v| v.to_str().ok())
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// `Content-Length`, if the answer has one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.response.chunk().await.map_err(Failure::transport)
    }
}

/// Reads a body of at most `max` bytes.
pub(crate) async fn read_bounded(mut body: Body, max: usize) -> Result<Bytes, Failure> {
    let over = || Failure::new(Cause::Invalid, format!("its answer is larger than {max} bytes"));
    if body.length().is_some_and(|n| n > max as u64) {
        return Err(over());
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.chunk().await? {
        if bytes.len() + chunk.len() > max {
            return Err(over());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// What is sent to one endpoint, and how.
pub(crate) struct Transport {
    base: Url,
    origin: String,
    /// The endpoint's own headers, which other origins do not see.
    headers: HeaderMap,
    clients: Clients,
}

impl Transport {
    /// `base` is the endpoint's address up to where repositories begin, without a slash at its end.
    pub(crate) fn new(base: Url, headers: HeaderMap, clients: Clients) -> Self {
        let origin = base.origin().ascii_serialization();
        Self { base, origin, headers, clients }
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the endpoint is spoken to without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// The address of something below the endpoint; `namespace` is what mirrors are told about the registry they
    /// stand for.
    pub(crate) fn url(&self, path: &str, namespace: Option<&str>) -> Url {
        let mut url = self.base.clone();
        let joined = format!("{}/{path}", self.base.path().trim_end_matches('/'));
        url.set_path(&joined);
        if let Some(namespace) = namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// Sends a request to the endpoint. `open` headers go to wherever it redirects.
    pub(crate) async fn request(
        &self,
        method: Method,
        url: Url,
        open: &HeaderMap,
        authorization: Option<HeaderValue>,
    ) -> Result<Body, Failure> {
        let mut secret = self.headers.clone();
        if let Some(value) = authorization {
            secret.insert(AUTHORIZATION, value);
        }
        self.follow(method, url, open, secret).await
    }

    /// Asks a token server: GET with basic credentials, or POST with a form, which is never redirected.
    pub(crate) async fn token_request(
        &self,
        url: Url,
        basic: Option<HeaderValue>,
        form: Option<String>,
    ) -> Result<Body, Failure> {
        let Some(form) = form else {
            let secret = basic.into_iter().map(|v| (AUTHORIZATION, v)).collect();
            return self.follow(Method::GET, url, &HeaderMap::new(), secret).await;
        };
        let client = self.clients.of(&url)?;
        let request = client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let response = request.send().await.map_err(Failure::transport)?;
        Ok(Body { response, foreign: true })
    }

    async fn follow(
        &self,
        method: Method,
        mut url: Url,
        open: &HeaderMap,
        mut secret: HeaderMap,
    ) -> Result<Body, Failure> {
        let home = url.origin();
        let mut foreign = false;
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = open.clone();
            headers.extend(secret.clone());
            let request = self.clients.of(&url)?.request(method.clone(), url.clone()).headers(headers);
            let response = request.send().await.map_err(Failure::transport)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Body { response, foreign });
            }
            let next = target(&url, response.headers().get(LOCATION))?;
            if next.origin() != home {
                foreign = true;
                secret.clear();
            }
            url = next;
        }
        Err(Failure::new(Cause::Unavailable, format!("more than {MAX_REDIRECTS} redirects")))
    }
}

/// Where a redirect leads.
pub(super) fn target(from: &Url, location: Option<&HeaderValue>) -> Result<Url, Failure> {
    let wrong = |why: &str| Failure::new(Cause::Unavailable, format!("a redirect {why}"));
    let location = location.and_then(|v| v.to_str().ok()).ok_or_else(|| wrong("without a readable location"))?;
    let mut next = from.join(location).map_err(|_| wrong("to an address that cannot be read"))?;
    match (from.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err(wrong("from https to http is not followed")),
        _ => return Err(wrong("to something else than http is not followed")),
    }
    // A user name in the address would become an Authorization header.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    next.set_fragment(None);
    Ok(next)
}
