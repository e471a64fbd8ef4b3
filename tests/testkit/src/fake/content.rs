//! What a fake registry has and whom it lets see it: the honest part.

use super::Request;
use crate::image::{Blob, Image, Index};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde_json::json;
use std::collections::HashMap;

/// Who may read.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// This user with this password in each request.
    Basic(String, String),
    /// A bearer token from `/token`, which wants the user and password when
    /// they are given.
    Token(Option<(String, String)>),
}

/// An answer before any fault.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) access: Access,
    tags: HashMap<(String, String), Blob>,
    blobs: HashMap<(String, String), Blob>,
}

/// The only token that is ever given out.
const TOKEN: &str = "dGVzdGtpdC1iZWFyZXItdG9rZW4";

impl Content {
    pub(super) fn image(&mut self, repository: &str, image: &Image) {
        self.blob(repository, image.config.clone());
        for layer in &image.layers {
            self.blob(repository, layer.blob.clone());
        }
        self.manifest(repository, &image.manifest.digest, image.manifest.clone());
    }

    pub(super) fn index(&mut self, repository: &str, tag: &str, index: &Index) {
        for image in &index.images {
            self.image(repository, image);
        }
        self.manifest(repository, tag, index.blob.clone());
        self.manifest(repository, &index.blob.digest, index.blob.clone());
    }

    /// Serves the bytes under a tag or a digest, whatever their own digest is.
    pub(super) fn manifest(&mut self, repository: &str, reference: &str, manifest: Blob) {
        self.tags.insert((repository.to_owned(), reference.to_owned()), manifest);
    }

    /// Serves the bytes under the digest that the blob claims.
    pub(super) fn blob(&mut self, repository: &str, blob: Blob) {
        self.blobs.insert((repository.to_owned(), blob.digest.clone()), blob);
    }

    /// The answer of a registry that keeps to the distribution specification.
    pub(super) fn answer(&self, request: &Request, own_url: &str) -> Answer {
        if request.path == "/token" {
            return self.token(request);
        }
        let Some(path) = request.path.strip_prefix("/v2/") else { return error(404, "NOT_FOUND") };
        if let Some(refusal) = self.refusal(request, path, own_url) {
            return refusal;
        }
        if path.is_empty() {
            return Answer::new(200, "{}");
        }
        let found = if let Some((repository, reference)) = path.rsplit_once("/manifests/") {
            self.tags.get(&(repository.to_owned(), reference.to_owned())).ok_or("MANIFEST_UNKNOWN")
        } else if let Some((repository, digest)) = path.rsplit_once("/blobs/") {
            self.blobs.get(&(repository.to_owned(), digest.to_owned())).ok_or("BLOB_UNKNOWN")
        } else {
            Err("NAME_UNKNOWN")
        };
        match found {
            Ok(blob) => ranged(request, blob),
            Err(code) => error(404, code),
        }
    }

    fn refusal(&self, request: &Request, path: &str, own_url: &str) -> Option<Answer> {
        let challenge = match &self.access {
            Access::Open => return None,
            Access::Basic(user, password) if is_basic(request, user, password) => return None,
            Access::Basic(..) => r#"Basic realm="testkit""#.to_owned(),
            Access::Token(_) if request.header("authorization") == Some(&format!("Bearer {TOKEN}")) => return None,
            Access::Token(_) => {
                let repository = path.split("/manifests/").next().and_then(|p| p.split("/blobs/").next());
                let scope = repository.map_or(String::new(), |name| format!(r#",scope="repository:{name}:pull""#));
                format!(r#"Bearer realm="{own_url}/token",service="testkit"{scope}"#)
            }
        };
        Some(error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge))
    }

    fn token(&self, request: &Request) -> Answer {
        let allowed = match &self.access {
            Access::Token(Some((user, password))) => is_basic(request, user, password),
            Access::Token(None) => true,
            _ => false,
        };
        if allowed {
            Answer::new(200, json!({ "token": TOKEN, "access_token": TOKEN, "expires_in": 300 }).to_string())
        } else {
            error(401, "UNAUTHORIZED")
        }
    }
}

/// The content, or the part of it that a range from one byte on asks for.
fn ranged(request: &Request, blob: &Blob) -> Answer {
    let length = blob.data.len();
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    let bounds = range.and_then(|range| range.split_once('-')).and_then(|(from, to)| {
        let from: usize = from.parse().ok()?;
        let to = if to.is_empty() { length } else { to.parse::<usize>().ok()?.checked_add(1)?.min(length) };
        Some((from, to))
    });
    let answer = match bounds {
        Some((from, to)) if from < to => Answer::new(206, blob.data.slice(from..to))
            .header("Content-Range", format!("bytes {from}-{}/{length}", to - 1)),
        Some(_) => return error(416, "RANGE_INVALID").header("Content-Range", format!("bytes */{length}")),
        None => Answer::new(200, blob.data.clone()),
    };
    answer
        .header("Content-Type", &blob.media_type)
        .header("Docker-Content-Digest", &blob.digest)
        .header("Accept-Ranges", "bytes")
}

fn error(status: u16, code: &str) -> Answer {
    let body = json!({ "errors": [{ "code": code, "message": code.to_lowercase().replace('_', " ") }] });
    Answer::new(status, body.to_string()).header("Content-Type", "application/json")
}

fn is_basic(request: &Request, user: &str, password: &str) -> bool {
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    request.header("authorization") == Some(&expected)
}
