//! Credentials, and how an endpoint is convinced by them.
//!
//! An endpoint is asked without credentials until it sends a challenge. The answer to it (a basic header, or a token
//! from the server that the challenge names) is kept for the pull's further requests to the same endpoint. What is
//! refused gives way to the next of the endpoint's candidates, for good.

pub(crate) mod challenge;
mod credentials;
pub(crate) mod token;

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::Mutex;

use self::challenge::Challenge;
pub(crate) use self::credentials::{Credentials, same_server};
use self::token::{Tokens, Want};
use super::credentials::Candidate;
use super::failure::{Cause, Failure};
use super::transport::Transport;

/// Credentials of a pull: CRI's `AuthConfig`, or `registry.configs.HOST.auth`. Empty strings are absent values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Base64 of `username:password`, read when `username` is empty.
    pub auth: String,
    /// The registry these are for, as host or URL; empty: whatever endpoint stands for the image's registry.
    pub server_address: String,
    /// OAuth2 refresh token.
    pub identity_token: String,
    /// Bearer token for the registry itself.
    pub registry_token: String,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}

/// What one endpoint was told so far.
#[derive(Default)]
struct State {
    header: Option<HeaderValue>,
    /// Counts the headers, so that a request knows whether its own is still the newest.
    generation: u64,
    /// What the header is made of; none: nothing was tried yet, or there is nothing.
    current: Option<Credentials>,
    /// The candidate to be tried next.
    next: usize,
    /// Whether anything was tried yet.
    started: bool,
    /// Whether it was tried without credentials, for want of any.
    anonymous: bool,
    /// What the endpoint asked for last: a 403 says nothing about it.
    challenges: Vec<Challenge>,
}

/// Convinces one endpoint during one pull.
pub(crate) struct Authenticator {
    candidates: Vec<Candidate>,
    /// The scope to ask for when the challenge names none.
    scope: String,
    tokens: Arc<Tokens>,
    state: Mutex<State>,
}

/// The header to send, and which one it is.
#[derive(Clone, Default)]
pub(crate) struct Proof {
    pub(crate) header: Option<HeaderValue>,
    generation: u64,
    /// Whether another answer to a challenge could differ.
    pub(crate) last: bool,
    /// Whether there are other credentials to try if these are refused.
    pub(crate) more: bool,
    /// Whether this request got all that can be made of these credentials.
    spent: bool,
}

impl Authenticator {
    pub(crate) fn new(candidates: Vec<Candidate>, repository: &str, tokens: Arc<Tokens>) -> Self {
        let scope = format!("repository:{repository}:pull");
        Self { candidates, scope, tokens, state: Mutex::default() }
    }

    /// What to send with the next request.
    pub(crate) async fn proof(&self) -> Proof {
        self.show(&*self.state.lock().await, false)
    }

    fn show(&self, state: &State, last: bool) -> Proof {
        let more = state.header.is_some() && state.next < self.candidates.len();
        Proof { header: state.header.clone(), generation: state.generation, last: last && !more, more, spent: last }
    }

    /// How many answers one request may get: a token that was kept, and a fresh one, for each candidate.
    pub(crate) fn most_answers(&self) -> usize {
        2 * self.candidates.len().max(1)
    }

    /// Answers the challenges of a 401 that `refused` got, or a 403, which is about the credentials themselves. Fails
    /// when there is nothing new to say.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        challenges: &[Challenge],
        refused: &Proof,
        forbidden: bool,
    ) -> Result<Proof, Failure> {
        let mut state = self.state.lock().await;
        if state.generation != refused.generation {
            // Another request of this pull was quicker.
            return Ok(self.show(&state, false));
        }
        if !challenges.is_empty() {
            state.challenges = challenges.to_vec();
        }
        let mut failure = Failure::new(Cause::Unauthorized, "the credentials were refused");
        let mut spent = refused.spent || forbidden || !state.started;
        loop {
            if spent && !self.advance(&mut state).await {
                return Err(failure);
            }
            spent = true;
            let (credentials, again) = (state.current.as_ref(), state.header.is_some());
            match self.header(transport, &state.challenges, credentials, again).await {
                Ok((header, last)) if !last || state.header.as_ref() != Some(&header) => {
                    state.header = Some(header);
                    state.generation += 1;
                    return Ok(self.show(&state, last));
                }
                Ok(_) => {}
                Err(f) if f.cause == Cause::Unauthorized => failure = f,
                Err(f) => return Err(f),
            }
        }
    }

    /// Goes on to the next credentials; to none, once, if there were never any.
    async fn advance(&self, state: &mut State) -> bool {
        while let Some(candidate) = self.candidates.get(state.next) {
            let credentials = match candidate {
                Candidate::Known(credentials) => Some(credentials.clone()),
                Candidate::Helper(helper) => helper.ask().await,
            };
            state.next += 1;
            if credentials.is_some() {
                (state.current, state.header, state.started) = (credentials, None, true);
                return true;
            }
        }
        let first = state.current.is_none() && !state.anonymous;
        if first {
            (state.anonymous, state.started) = (true, true);
        }
        first
    }

    /// The header that answers, and whether it is the last word. `again`: an earlier one was refused.
    async fn header(
        &self,
        transport: &Transport,
        challenges: &[Challenge],
        credentials: Option<&Credentials>,
        again: bool,
    ) -> Result<(HeaderValue, bool), Failure> {
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if let (Some(Credentials::Registry(token)), Some(_)) = (credentials, of("bearer")) {
            return Ok((secret(format!("Bearer {token}"))?, true));
        }
        if let Some(challenge) = of("bearer").filter(|c| c.param("realm").is_some()) {
            let want = Want {
                realm: challenge.param("realm").unwrap_or_default(),
                service: challenge.param("service").unwrap_or_default(),
                scope: challenge.param("scope").unwrap_or(&self.scope),
                credentials,
            };
            let (token, fresh) = self.tokens.get(transport, &want, again).await?;
            return Ok((secret(format!("Bearer {token}"))?, fresh));
        }
        match (credentials, of("basic")) {
            (Some(Credentials::Basic { .. }), Some(_)) => {}
            (None, Some(_)) => return Err(Failure::new(Cause::Unauthorized, "credentials are required")),
            (_, Some(_)) => {
                let text = "it wants a user name and password, and only a token was given";
                return Err(Failure::new(Cause::Unauthorized, text));
            }
            (_, None) => {
                let schemes: Vec<_> = challenges.iter().map(|c| c.scheme.as_str()).collect();
                let text = match schemes.is_empty() {
                    true => "401 without a usable challenge".to_owned(),
                    false => format!("401 with unsupported challenges ({})", schemes.join(", ")),
                };
                return Err(Failure::new(Cause::Unauthorized, text));
            }
        }
        let basic = credentials.and_then(Credentials::basic).unwrap_or_default();
        Ok((secret(basic)?, true))
    }
}

/// A header value that debug output hides.
fn secret(text: String) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Failure::new(Cause::Invalid, "the credentials or token contain control characters"))?;
    value.set_sensitive(true);
    Ok(value)
}
