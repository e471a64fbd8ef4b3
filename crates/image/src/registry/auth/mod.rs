//! Credentials, and how an endpoint is convinced by them.
//!
//! An endpoint is asked without credentials until it sends a challenge. The answer to it (a basic header, or a token
//! from the server that the challenge names) is kept for the pull's further requests to the same endpoint.

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
}

/// Convinces one endpoint during one pull.
pub(crate) struct Authenticator {
    credentials: Option<Credentials>,
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
}

impl Authenticator {
    pub(crate) fn new(credentials: Option<Credentials>, repository: &str, tokens: Arc<Tokens>) -> Self {
        let scope = format!("repository:{repository}:pull");
        Self { credentials, scope, tokens, state: Mutex::default() }
    }

    /// What to send with the next request.
    pub(crate) async fn proof(&self) -> Proof {
        let state = self.state.lock().await;
        Proof { header: state.header.clone(), generation: state.generation, last: false }
    }

    /// Answers the challenges of a 401 that `refused` got. Fails when there is nothing new to say.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        challenges: &[Challenge],
        refused: &Proof,
    ) -> Result<Proof, Failure> {
        let mut state = self.state.lock().await;
        if state.generation != refused.generation {
            // Another request of this pull was quicker.
            return Ok(Proof { header: state.header.clone(), generation: state.generation, last: false });
        }
        let (header, last) = self.header(transport, challenges, state.header.is_some()).await?;
        if last && state.header.as_ref() == Some(&header) {
            return Err(Failure::new(Cause::Unauthorized, "the credentials were refused"));
        }
        state.header = Some(header);
        state.generation += 1;
        Ok(Proof { header: state.header.clone(), generation: state.generation, last })
    }

    /// The header that answers, and whether it is the last word. `again`: an earlier one was refused.
    async fn header(
        &self,
        transport: &Transport,
        challenges: &[Challenge],
        again: bool,
    ) -> Result<(HeaderValue, bool), Failure> {
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if let (Some(Credentials::Registry(token)), Some(_)) = (&self.credentials, of("bearer")) {
            return Ok((secret(format!("Bearer {token}"))?, true));
        }
        if let Some(challenge) = of("bearer").filter(|c| c.param("realm").is_some()) {
            let want = Want {
                realm: challenge.param("realm").unwrap_or_default(),
                service: challenge.param("service").unwrap_or_default(),
                scope: challenge.param("scope").unwrap_or(&self.scope),
                credentials: self.credentials.as_ref(),
            };
            let (token, fresh) = self.tokens.get(transport, &want, again).await?;
            return Ok((secret(format!("Bearer {token}"))?, fresh));
        }
        match (&self.credentials, of("basic")) {
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
        let basic = self.credentials.as_ref().and_then(Credentials::basic).unwrap_or_default();
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
