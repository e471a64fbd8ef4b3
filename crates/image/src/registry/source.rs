//! The endpoints of one pull.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Method};
use serde::Deserialize;

use super::auth::token::Tokens;
use super::auth::{AuthConfig, Authenticator, Credentials, challenge, same_server};
use super::credentials::{Candidate, NodeCredentials};
use super::failure::{Cause, Failure, clean};
use super::hosts::Host;
use super::transport::{Body, Transport, read_bounded};
use super::{RegistryConfig, RegistryError};
use crate::reference::{DEFAULT_REGISTRY, Reference};

/// Longest `Retry-After` that is waited for, once, before a 429 is an error.
const SHORT_RETRY: Duration = Duration::from_secs(5);
/// Largest error document that is read, in bytes.
const MAX_ERROR: usize = 16 << 10;

/// Where the blobs of one repository can be had, with the credentials of the pull. Cheap to clone.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    reference: Reference,
    endpoints: Vec<Endpoint>,
    config: Arc<RegistryConfig>,
}

impl Source {
    /// Gives each host the credentials that it may see.
    pub(crate) fn new(
        reference: &Reference,
        hosts: Vec<Host>,
        auth: Option<&AuthConfig>,
        node: &NodeCredentials,
        config: Arc<RegistryConfig>,
        tokens: &Arc<Tokens>,
    ) -> Result<Self, RegistryError> {
        let mut endpoints = Vec::with_capacity(hosts.len());
        for mut host in hosts {
            let authority = host.authority();
            let own = authority == reference.registry()
                || (reference.registry() == DEFAULT_REGISTRY && authority == "registry-1.docker.io");
            let known = credentials(auth, &config, &authority)
                .map_err(|cause| RegistryError::Invalid { what: reference.to_string(), cause })?;
            let mut candidates: Vec<Candidate> = known.into_iter().map(Candidate::Known).collect();
            if !is_given(auth) {
                let same = own || same_server(reference.registry(), &authority);
                let name = if same { reference.registry() } else { authority.as_str() };
                let found = node.candidates(&format!("{name}/{}", reference.repository()));
                if !found.is_empty() {
                    // The endpoint's own configuration goes before.
                    let headers = node.headers().iter().filter(|(name, _)| !host.headers.contains_key(*name));
                    let headers: Vec<_> = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
                    host.headers.extend(headers);
                }
                candidates.extend(found);
            }
            let auth = Authenticator::new(candidates, reference.repository(), tokens.clone());
            endpoints.push(Endpoint {
                label: host.base.as_str().trim_end_matches('/').to_owned(),
                pull: host.pull,
                resolve: host.resolve,
                namespace: (!own).then(|| reference.registry().to_owned()),
                transport: Transport::new(host.base, host.headers, host.clients),
                auth,
                unreachable: AtomicBool::new(false),
                timeout: config.response_timeout,
            });
        }
        Ok(Self(Arc::new(Inner { reference: reference.clone(), endpoints, config })))
    }

    /// What the pull is for.
    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    pub(crate) fn config(&self) -> &RegistryConfig {
        &self.0.config
    }

    /// The endpoint with that index.
    pub(crate) fn endpoint(&self, index: usize) -> &Endpoint {
        &self.0.endpoints[index]
    }

    /// The endpoints that `may` serve, those that could not be reached during this pull last.
    pub(crate) fn order(&self, may: impl Fn(&Endpoint) -> bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.endpoints.len()).filter(|&i| may(self.endpoint(i))).collect();
        order.sort_by_key(|&i| self.endpoint(i).unreachable.load(Ordering::Relaxed));
        order
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.0.endpoints.iter().map(|e| e.label.as_str()).collect();
        f.debug_struct("Source").field("reference", &self.0.reference).field("endpoints", &endpoints).finish()
    }
}

/// Whether the call brought credentials.
pub(super) fn is_given(auth: Option<&AuthConfig>) -> bool {
    auth.is_some_and(|a| *a != AuthConfig::default())
}

/// The call's credentials if it brought any, else the node's for that host.
fn credentials(
    auth: Option<&AuthConfig>,
    config: &RegistryConfig,
    authority: &str,
) -> Result<Option<Credentials>, String> {
    if let Some(auth) = auth.filter(|_| is_given(auth)) {
        return Credentials::of(auth, authority);
    }
    let known = config.auths.iter().find(|(host, _)| super::auth::same_server(host, authority));
    known.map_or(Ok(None), |(_, auth)| Credentials::of(auth, authority))
}

/// One server of a [`Source`].
pub(crate) struct Endpoint {
    /// Its address in messages.
    pub(crate) label: String,
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    namespace: Option<String>,
    transport: Transport,
    auth: Authenticator,
    unreachable: AtomicBool,
    timeout: Duration,
}

impl Endpoint {
    /// Sends a request for something of the repository, `manifests/…` or `blobs/…`, with credentials if the endpoint
    /// wants them. Anything but success is a failure. Bounded in time up to the answer's head.
    pub(crate) async fn request(
        &self,
        method: Method,
        repository: &str,
        path: &str,
        open: &HeaderMap,
    ) -> Result<Body, Failure> {
        let path = format!("{repository}/{path}");
        let exchange = self.exchange(method, &path, open);
        let answer = tokio::time::timeout(self.timeout, exchange).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Failure::new(Cause::TimedOut, format!("no answer within {} s", self.timeout.as_secs_f32())))
        });
        let unreachable = matches!(&answer, Err(f) if matches!(f.cause, Cause::Unavailable | Cause::TimedOut));
        self.unreachable.store(unreachable, Ordering::Relaxed);
        answer
    }

    async fn exchange(&self, method: Method, path: &str, open: &HeaderMap) -> Result<Body, Failure> {
        let url = self.transport.url(path, self.namespace.as_deref());
        let mut proof = self.auth.proof().await;
        let (mut answers, mut waited) = (0, false);
        loop {
            let body = self.transport.request(method.clone(), url.clone(), open, proof.header.clone()).await?;
            match body.status() {
                200..=299 => return Ok(body),
                // A server that somebody redirected to gets no credentials, whatever it asks for.
                401 if !body.is_foreign() && !proof.last && answers < self.auth.most_answers() => {
                    let challenges: Vec<_> = body
                        .headers()
                        .get_all(WWW_AUTHENTICATE)
                        .iter()
                        .take(16)
                        .filter_map(|v| v.to_str().ok())
                        .flat_map(challenge::parse)
                        .collect();
                    answers += 1;
                    proof = self.auth.answer(&self.transport, &challenges, &proof, false).await?;
                }
                403 if !body.is_foreign() && proof.more && answers < self.auth.most_answers() => {
                    answers += 1;
                    proof = self.auth.answer(&self.transport, &[], &proof, true).await?;
                }
                429 if !waited && retry_after(&body).is_some_and(|t| t <= SHORT_RETRY) => {
                    waited = true;
                    tokio::time::sleep(retry_after(&body).unwrap_or_default()).await;
                }
                _ => return Err(refusal(body).await),
            }
        }
    }
}

/// `Retry-After` in seconds; the form with a date says nothing without a common clock.
fn retry_after(body: &Body) -> Option<Duration> {
    body.header(RETRY_AFTER)?.trim().parse().ok().map(Duration::from_secs)
}

/// The failure that a status stands for (distribution-spec, "Error Codes").
async fn refusal(body: Body) -> Failure {
    let status = body.status();
    let retry = body.header(RETRY_AFTER).map(clean);
    let from = if body.is_foreign() { " after a redirect to another server" } else { "" };
    let (code, message) = describe(body).await;
    let missing = matches!(code.as_str(), "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN" | "NAME_INVALID");
    let cause = match status {
        404 | 410 => Cause::NotFound,
        401 => Cause::Unauthorized,
        403 => Cause::Forbidden,
        429 => Cause::RateLimited,
        408 => Cause::TimedOut,
        416 => Cause::Range,
        400..=499 if missing => Cause::NotFound,
        500.. => Cause::Unavailable,
        _ => Cause::Invalid,
    };
    let name = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
    let mut text = format!("{status} {name}{from}").trim_end().to_owned();
    if !message.is_empty() {
        text = format!("{text} ({message})");
    }
    if let Some(retry) = retry {
        text = format!("{text}, retry after {retry} s");
    }
    Failure::new(cause, text)
}

/// Code and message of the error document, if the answer is one.
async fn describe(body: Body) -> (String, String) {
    #[derive(Deserialize)]
    struct Document {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(bytes) = read_bounded(body, MAX_ERROR).await else { return Default::default() };
    let Ok(document) = serde_json::from_slice::<Document>(&bytes) else { return Default::default() };
    let Some(first) = document.errors.into_iter().next() else { return Default::default() };
    let message = if first.message.is_empty() { first.code.to_lowercase().replace('_', " ") } else { first.message };
    (first.code, clean(&message))
}
