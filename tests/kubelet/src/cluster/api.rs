//! A small client of the API server: objects as JSON, and watches, so that
//! nobody has to ask again and again.

use anyhow::{Context, Result, bail, ensure};
use cricket_testkit::host::patient;
use reqwest::{Certificate, Client, Method, Response, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// An object, or what happened to it, is not larger than this.
const MAX_LINE: usize = 4 << 20;

/// A client with the administrator's rights.
#[derive(Clone)]
pub struct Api {
    url: String,
    client: Client,
}

/// What became of an object.
#[derive(Clone, Debug)]
pub struct Change {
    /// `ADDED` (also for what was there before the watch), `MODIFIED` or `DELETED`.
    pub kind: String,
    /// The object, with its last state where it was deleted.
    pub object: Value,
}

impl Api {
    /// A client for the server at a URL, which has a certificate of the CA (PEM).
    pub(super) fn new(url: &str, ca: &[u8], token: &str) -> Result<Self> {
        let mut bearer = header::HeaderValue::from_str(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        let headers = header::HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
        let client = Client::builder().no_proxy().default_headers(headers).tls_certs_only([Certificate::from_pem(ca)?]);
        Ok(Self { url: url.to_owned(), client: client.connect_timeout(patient(Duration::from_secs(10))).build()? })
    }

    /// Is the server ready for everybody?
    pub(super) async fn ready(&self) -> Result<()> {
        let request = self.client.get(format!("{}/readyz", self.url)).timeout(patient(Duration::from_secs(10)));
        accepted(request.send().await?).await.map(drop)
    }

    /// Reads an object or a list, such as `/api/v1/nodes`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Makes an object in a collection.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(("application/json", object))).await
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.call(Method::PATCH, path, Some(("application/merge-patch+json", patch))).await
    }

    /// Deletes an object, or all of a collection, as its own grace period has it, not waiting for the end.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.call(Method::DELETE, path, Some(("application/json", &json!({ "propagationPolicy": "Background" })))).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value> {
        let what = format!("{method} {path}");
        let limit = patient(Duration::from_secs(30));
        let mut request = self.client.request(method, format!("{}{path}", self.url)).timeout(limit);
        if let Some((kind, body)) = body {
            request = request.header(header::CONTENT_TYPE, kind).body(serde_json::to_vec(body)?);
        }
        let response = accepted(request.send().await?).await.with_context(|| what.clone())?;
        response.json().await.context(what)
    }

    /// Follows the objects of a collection (a path with a query, if any) until
    /// the question has an answer; an error shows every object as it was last.
    pub async fn watch<T>(
        &self,
        path: &str,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut(&Change) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut last = BTreeMap::new();
        let mut observe = |change: Change| {
            let answer = ask(&change);
            let name = change.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            last.insert(name, change);
            answer
        };
        let follow = async {
            loop {
                // The server ends a watch when it likes; another one begins with everything there is.
                if let Some(answer) = self.follow(path, &mut observe).await? {
                    return Ok::<T, anyhow::Error>(answer);
                }
            }
        };
        match timeout_at(deadline, follow).await {
            Ok(answer) => answer.with_context(|| format!("while watching {path} for {what}")),
            Err(_) => bail!("waited {limit:?} for {what}; seen last:\n{}", described(&last)),
        }
    }

    /// Waits until there is no object of this name in the collection.
    pub async fn gone(&self, collection: &str, name: &str, limit: Duration) -> Result<()> {
        let path = format!("{collection}?fieldSelector=metadata.name%3D{name}");
        // Without a version a watch begins with what is there; one from a list's version begins after it.
        let list = self.get(&path).await?;
        if list["items"].as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let version = list["metadata"]["resourceVersion"].as_str().context("a list without a version")?;
        let path = format!("{path}&resourceVersion={version}");
        self.watch(&path, &format!("the end of {name}"), limit, |change| (change.kind == "DELETED").then_some(())).await
    }

    /// One watch, to its end or an answer.
    async fn follow<T>(&self, path: &str, ask: &mut impl FnMut(Change) -> Option<T>) -> Result<Option<T>> {
        let join = if path.contains('?') { '&' } else { '?' };
        let request = self.client.get(format!("{}{path}{join}watch=true", self.url));
        let mut response = accepted(request.send().await?).await?;
        let mut rest = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line)?;
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                let object = event["object"].take();
                ensure!(kind != "ERROR", "the watch ended: {object}");
                if let Some(answer) = ask(Change { kind, object }) {
                    return Ok(Some(answer));
                }
            }
            ensure!(rest.len() <= MAX_LINE, "a line of more than {MAX_LINE} bytes");
        }
        Ok(None)
    }
}

/// The answer, or an error with the server's own words.
async fn accepted(response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await?;
    let message = serde_json::from_str::<Value>(&body).ok().and_then(|s| s["message"].as_str().map(str::to_owned));
    bail!("{status}: {}", message.unwrap_or(body))
}

/// What matters of objects: events by their texts, others by their status.
fn described(objects: &BTreeMap<String, Change>) -> String {
    let line = |change: &Change| {
        let object = &change.object;
        match object["kind"].as_str() {
            Some("Event") => format!("  {}: {}", object["reason"], object["message"]),
            _ => {
                let state = object.get("status").unwrap_or(object);
                let state = serde_json::to_string_pretty(state).unwrap_or_default();
                format!("  {} {} {state}", change.kind, object["metadata"]["name"])
            }
        }
    };
    if objects.is_empty() { "  nothing".to_owned() } else { objects.values().map(line).collect::<Vec<_>>().join("\n") }
}
