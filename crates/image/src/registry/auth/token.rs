//! Tokens of a registry's token server: the distribution project's token specification (GET) and its OAuth2 form
//! (POST), kept in memory until they expire.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use url::Url;

use super::credentials::Credentials;
use crate::registry::failure::{Cause, Failure};
use crate::registry::transport::{Body, Transport, read_bounded};

/// How long a token lives whose server does not say (token specification, "Token Response Fields").
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Longest life that is believed.
const MAX_LIFE: Duration = Duration::from_secs(12 * 3600);
/// Largest answer of a token server, in bytes.
const MAX_ANSWER: usize = 256 << 10;
/// Most tokens kept.
const MAX_TOKENS: usize = 512;

/// What a token is asked for.
pub(crate) struct Want<'a> {
    pub(crate) realm: &'a str,
    pub(crate) service: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) credentials: Option<&'a Credentials>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    /// Base address of the endpoint: a token is shown to nobody but who asked for it.
    endpoint: String,
    realm: String,
    service: String,
    scope: String,
    credentials: Option<[u8; 32]>,
}

struct Token {
    text: String,
    until: Instant,
}

/// The tokens that this process has.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Token>>);

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl Tokens {
    /// A token, and whether it was made just now. `renew` leaves the kept one aside.
    pub(crate) async fn get(
        &self,
        transport: &Transport,
        want: &Want<'_>,
        renew: bool,
    ) -> Result<(String, bool), Failure> {
        let key = Key {
            endpoint: transport.origin().to_owned(),
            realm: want.realm.to_owned(),
            service: want.service.to_owned(),
            scope: want.scope.to_owned(),
            credentials: want.credentials.map(Credentials::fingerprint),
        };
        if !renew && let Some(text) = self.kept(&key) {
            return Ok((text, false));
        }
        let (text, life) = fetch(transport, want).await?;
        // A tenth less, so that it does not expire on its way.
        self.keep(key, Token { text: text.clone(), until: Instant::now() + life * 9 / 10 });
        Ok((text, true))
    }

    fn kept(&self, key: &Key) -> Option<String> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(key).filter(|t| t.until > Instant::now()).map(|t| t.text.clone())
    }

    fn keep(&self, key: Key, token: Token) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, t| t.until > now);
        if tokens.len() < MAX_TOKENS {
            tokens.insert(key, token);
        }
    }
}

async fn fetch(transport: &Transport, want: &Want<'_>) -> Result<(String, Duration), Failure> {
    let realm = Url::parse(want.realm)
        .map_err(|e| Failure::new(Cause::Unauthorized, format!("its token server {:?}: {e}", want.realm)))?;
    let plain = realm.scheme() == "http" && transport.is_plain();
    if realm.host_str().is_none() || !(realm.scheme() == "https" || plain) {
        let text = format!("its token server {:?} is not an https address", want.realm);
        return Err(Failure::new(Cause::Unauthorized, text));
    }
    let name = realm.host_str().unwrap_or_default().to_owned();
    let about = |f: Failure| Failure { text: format!("token server {name}: {}", f.text), ..f };
    let answer = match want.credentials {
        Some(Credentials::Identity(token)) => post(transport, &realm, want, &[("refresh_token", token)]).await,
        _ => get(transport, &realm, want).await,
    };
    let (status, body) = match (answer.map_err(about)?, want.credentials) {
        // A server that knows the OAuth2 form only.
        ((404 | 405, _), Some(Credentials::Basic { username, password })) => {
            let login = [("username", username.as_str()), ("password", password)];
            post(transport, &realm, want, &login).await.map_err(about)?
        }
        (answer, _) => answer,
    };
    let refused = |cause, text| Err(about(Failure::new(cause, text)));
    match status {
        200 => {}
        429 => return refused(Cause::RateLimited, "429 too many requests"),
        500.. => return refused(Cause::Unavailable, &format!("status {status}")),
        _ if want.credentials.is_some() => {
            return refused(Cause::Unauthorized, &format!("status {status}, the credentials were refused"));
        }
        _ => return refused(Cause::Unauthorized, &format!("status {status}, credentials are required")),
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| about(Failure::new(Cause::Unauthorized, "its answer is not a token")))?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|t| !t.is_empty());
    let Some(token) = token else { return refused(Cause::Unauthorized, "its answer has no token") };
    let life = answer
        .expires_in
        .filter(|s| *s > 0.0)
        .map_or(DEFAULT_LIFE, |s| Duration::try_from_secs_f64(s).unwrap_or(MAX_LIFE).min(MAX_LIFE));
    Ok((token, life))
}

async fn get(transport: &Transport, realm: &Url, want: &Want<'_>) -> Result<(u16, Vec<u8>), Failure> {
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if !want.service.is_empty() {
            query.append_pair("service", want.service);
        }
        for scope in want.scope.split(' ').filter(|s| !s.is_empty()) {
            query.append_pair("scope", scope);
        }
    }
    let basic = want.credentials.and_then(Credentials::basic).map(super::secret).transpose()?;
    finish(transport.token_request(url, basic, None).await?).await
}

async fn post(
    transport: &Transport,
    realm: &Url,
    want: &Want<'_>,
    login: &[(&str, &str)],
) -> Result<(u16, Vec<u8>), Failure> {
    let form = {
        let grant = if login.len() == 1 { "refresh_token" } else { "password" };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", grant).append_pair("service", want.service);
        form.append_pair("client_id", "cricket").append_pair("scope", want.scope);
        form.extend_pairs(login).finish()
    };
    finish(transport.token_request(realm.clone(), None, Some(form)).await?).await
}

async fn finish(response: Body) -> Result<(u16, Vec<u8>), Failure> {
    let status = response.status();
    Ok((status, read_bounded(response, MAX_ANSWER).await?.to_vec()))
}
