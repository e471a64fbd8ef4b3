//! From a reference to one verified image: the tag's document, the platform's choice, the config.
//!
//! ```text
//! tag or digest ─▶ index ─▶ (index) ─▶ manifest ─▶ config ─▶ checks ─▶ Resolved
//! ```
//!
//! Below the first document everything is addressed by digest, so a cycle would need a hash collision; depth and
//! number of documents are bounded all the same.

use bytes::Bytes;
use cricket_model::Digest;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use super::failure::{Cause, Failure, Failures};
use super::manifest::{self, Config, Descriptor, Document};
use super::resolved::{LayerDescriptor, Platform, Resolved, VerifiedBlob};
use super::source::{Endpoint, Source};
use super::transport::{Body, read_bounded};
use super::{KnownContent, RegistryError};

/// Indexes on the way to an image.
const MAX_DEPTH: usize = 3;
/// Documents fetched for one reference.
const MAX_DOCUMENTS: usize = 32;
/// Platforms that an error lists.
const MAX_LISTED: usize = 30;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A document that may lead to the image.
struct Candidate {
    descriptor: Descriptor,
    /// Indexes above it.
    depth: usize,
    /// Whether an index said which platform it is for.
    labelled: bool,
}

/// Finds the image for `platform`.
pub(crate) async fn resolve(
    source: &Source,
    platform: &Platform,
    known: Option<&dyn KnownContent>,
) -> Result<Resolved, RegistryError> {
    let pull = Pull { source, platform, known, what: source.reference().to_string() };
    let (top, media_type) = pull.top().await?;
    let top_type = manifest::media_type(top.bytes(), &media_type);
    let mut available = Vec::new();
    let mut stack = Vec::new();
    let mut next = Some((top.clone(), media_type, 0, false));
    let mut fetched = 1;
    loop {
        let (blob, media_type, depth, labelled) = match next.take() {
            Some(next) => next,
            None => {
                let Some(candidate): Option<Candidate> = stack.pop() else {
                    return Err(pull.no_match(available));
                };
                fetched += 1;
                if fetched > MAX_DOCUMENTS {
                    return Err(pull.invalid(format!("its index leads to more than {MAX_DOCUMENTS} documents")));
                }
                let size = manifest::document_size(&candidate.descriptor).map_err(|e| pull.invalid(e))?;
                let digest = &candidate.descriptor.digest;
                let (blob, said) = match pull.known(digest) {
                    Some(blob) => (blob, String::new()),
                    None => pull.manifest(digest.as_str(), Some((digest, Some(size)))).await?,
                };
                let said = format!("{};{said}", candidate.descriptor.media_type);
                (blob, said, candidate.depth, candidate.labelled)
            }
        };
        let said: Vec<&str> = media_type.split(';').collect();
        let document =
            Document::parse(blob.bytes(), &said).map_err(|e| pull.invalid(format!("{}: {e}", blob.digest())))?;
        match document {
            Document::Index(_) if depth == MAX_DEPTH => {
                return Err(pull.invalid(format!("its indexes are nested more than {MAX_DEPTH} deep")));
            }
            Document::Index(children) => {
                stack.extend(pull.choose(children, depth + 1, labelled, &mut available));
            }
            Document::Image { config, layers } => {
                if let Some(image) =
                    pull.image((&top, &top_type), blob, &config, &layers, labelled, &mut available).await?
                {
                    return Ok(image);
                }
            }
        }
    }
}

struct Pull<'a> {
    source: &'a Source,
    platform: &'a Platform,
    known: Option<&'a dyn KnownContent>,
    what: String,
}

impl Pull<'_> {
    fn invalid(&self, cause: String) -> RegistryError {
        RegistryError::Invalid { what: self.what.clone(), cause }
    }

    fn no_match(&self, mut available: Vec<String>) -> RegistryError {
        available.sort();
        available.dedup();
        let more = available.len().saturating_sub(MAX_LISTED);
        available.truncate(MAX_LISTED);
        let mut list = available.join(", ");
        if more > 0 {
            list = format!("{list} and {more} more");
        }
        if list.is_empty() {
            list = "no image at all".to_owned();
        }
        RegistryError::NoMatch { what: self.what.clone(), wanted: self.platform.to_string(), available: list }
    }

    /// Content that the caller has already, hashed again.
    fn known(&self, digest: &Digest) -> Option<VerifiedBlob> {
        let bytes = self.known?.blob(digest)?;
        VerifiedBlob::check(bytes, digest, "known content").ok()
    }

    /// The document that the reference names, and its media type. With known content only the digest is asked for at
    /// first: it costs nothing of a registry's pull quota, and still shows that the caller may pull.
    async fn top(&self) -> Result<(VerifiedBlob, String), RegistryError> {
        let reference = self.source.reference();
        let expected = reference.digest().map(|d| (d, None));
        if self.known.is_some() {
            if let Some(digest) = self.head(|e| if expected.is_some() { e.pull } else { e.resolve }).await? {
                if let Some(blob) = self.known(&digest) {
                    return Ok((blob, String::new()));
                }
                return self.manifest(digest.as_str(), Some((&digest, None))).await;
            }
        } else if expected.is_none()
            && self.source.order(|e| e.resolve).first().is_some_and(|&i| !self.source.endpoint(i).pull)
        {
            // One endpoint tells the digest, others have the content.
            if let Some(digest) = self.head(|e| e.resolve).await? {
                return self.manifest(digest.as_str(), Some((&digest, None))).await;
            }
        }
        self.manifest(reference.version(), expected).await
    }

    /// Asks for the digest alone; none if the first endpoint with an answer does not tell it.
    async fn head(&self, may: impl Fn(&Endpoint) -> bool) -> Result<Option<Digest>, RegistryError> {
        let mut failures = Failures::default();
        let reference = self.source.reference();
        let path = format!("manifests/{}", reference.version());
        for index in self.source.order(may) {
            let endpoint = self.source.endpoint(index);
            match endpoint.request(Method::HEAD, reference.repository(), &path, &accept()).await {
                Ok(body) => match (told_digest(&body), reference.digest()) {
                    (told, Some(wanted)) if told.as_ref().is_none_or(|t| t == wanted) => {
                        return Ok(Some(wanted.clone()));
                    }
                    (Some(actual), Some(wanted)) => {
                        failures.add(&endpoint.label, mismatch(wanted, &actual));
                    }
                    (told, _) => return Ok(told),
                },
                // A server without HEAD: let GET tell.
                Err(f) if f.cause == Cause::Invalid => return Ok(None),
                Err(f) => failures.add(&endpoint.label, f),
            }
        }
        Err(failures.into_error(self.what.clone()))
    }

    /// Fetches a manifest by tag or digest from the first endpoint that has it whole and right.
    async fn manifest(
        &self,
        version: &str,
        expected: Option<(&Digest, Option<u64>)>,
    ) -> Result<(VerifiedBlob, String), RegistryError> {
        let by_tag = expected.is_none();
        let path = format!("manifests/{version}");
        self.get(&path, expected, manifest::MAX_DOCUMENT, |e| e.pull && (e.resolve || !by_tag)).await
    }

    async fn get(
        &self,
        path: &str,
        expected: Option<(&Digest, Option<u64>)>,
        max: usize,
        may: impl Fn(&Endpoint) -> bool,
    ) -> Result<(VerifiedBlob, String), RegistryError> {
        let mut failures = Failures::default();
        for index in self.source.order(may) {
            let endpoint = self.source.endpoint(index);
            match self.get_from(endpoint, path, expected, max).await {
                Ok(found) => return Ok(found),
                Err(f) => failures.add(&endpoint.label, f),
            }
        }
        let own = path.strip_prefix("manifests/") == Some(self.source.reference().version());
        Err(failures.into_error(if own { self.what.clone() } else { format!("{} ({path})", self.what) }))
    }

    async fn get_from(
        &self,
        endpoint: &Endpoint,
        path: &str,
        expected: Option<(&Digest, Option<u64>)>,
        max: usize,
    ) -> Result<(VerifiedBlob, String), Failure> {
        let repository = self.source.reference().repository();
        let body = endpoint.request(Method::GET, repository, path, &accept()).await?;
        let told = told_digest(&body);
        let media_type = body.header(CONTENT_TYPE).unwrap_or_default();
        // Parameters say nothing here.
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let timeout = self.source.config().response_timeout;
        let bytes: Bytes = tokio::time::timeout(timeout, read_bounded(body, max)).await.map_err(|_| {
            Failure::new(Cause::TimedOut, format!("the answer is not complete after {} s", timeout.as_secs_f32()))
        })??;
        let blob = VerifiedBlob::of(bytes);
        if let Some(wanted) = expected.map(|(d, _)| d).or(told.as_ref())
            && blob.digest() != wanted
        {
            return Err(mismatch(wanted, blob.digest()));
        }
        match expected {
            Some((_, Some(size))) if size != blob.bytes().len() as u64 => {
                let text = format!("{} bytes instead of {size}", blob.bytes().len());
                Err(Failure::new(Cause::Invalid, text))
            }
            _ => Ok((blob, media_type)),
        }
    }

    /// The children that may lead to the image, the best one last.
    fn choose(
        &self,
        children: Vec<Descriptor>,
        depth: usize,
        labelled: bool,
        available: &mut Vec<String>,
    ) -> Vec<Candidate> {
        let mut ranked = Vec::new();
        for descriptor in children {
            let rank = match descriptor.platform.as_ref().map(Platform::from) {
                Some(p) if p.os == "unknown" || p.architecture == "unknown" => continue,
                Some(p) => {
                    available.push(p.to_string());
                    match self.platform.rank(&p) {
                        Some(rank) => rank,
                        None => continue,
                    }
                }
                // Its config, or the index that it is, has to say.
                None => u32::MAX,
            };
            let labelled = labelled || rank != u32::MAX;
            ranked.push((rank, Candidate { descriptor, depth, labelled }));
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().rev().map(|(_, c)| c).collect()
    }

    /// Checks an image's layers and config; none if the config is for another platform.
    async fn image(
        &self,
        (top, top_type): (&VerifiedBlob, &str),
        manifest: VerifiedBlob,
        config: &Descriptor,
        layers: &[Descriptor],
        labelled: bool,
        available: &mut Vec<String>,
    ) -> Result<Option<Resolved>, RegistryError> {
        if layers.len() > manifest::MAX_LAYERS {
            let text = format!("{} layers, at most {} are supported", layers.len(), manifest::MAX_LAYERS);
            return Err(self.invalid(text));
        }
        let packed = layers.iter().map(manifest::layer).collect::<Result<Vec<_>, _>>();
        let packed = packed.map_err(|e| self.invalid(e))?;
        let size = manifest::document_size(config).map_err(|e| self.invalid(format!("image config {e}")))?;
        let blob = match self.known(&config.digest) {
            Some(blob) => blob,
            None => {
                let path = format!("blobs/{}", config.digest);
                let expected = Some((&config.digest, Some(size)));
                self.get(&path, expected, manifest::MAX_DOCUMENT, |e| e.pull).await?.0
            }
        };
        let parsed =
            Config::parse(blob.bytes(), layers.len()).map_err(|e| self.invalid(format!("{}: {e}", config.digest)))?;
        if let Some(own) = parsed.platform().filter(|_| !labelled)
            && self.platform.rank(&own).is_none()
        {
            available.push(own.to_string());
            return Ok(None);
        }
        let layers = layers.iter().zip(packed).zip(parsed.diff_ids());
        let layers = layers.map(|((descriptor, (size, compression)), diff_id)| LayerDescriptor {
            digest: descriptor.digest.clone(),
            size,
            media_type: descriptor.media_type.clone(),
            compression,
            diff_id: diff_id.clone(),
        });
        Ok(Some(Resolved {
            reference: self.source.reference().clone(),
            digest: top.digest().clone(),
            media_type: top_type.to_owned(),
            size: top.bytes().len() as u64,
            manifest,
            config: blob,
            layers: layers.collect(),
            source: self.source.clone(),
        }))
    }
}

fn accept() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(manifest::ACCEPT))])
}

/// `Docker-Content-Digest`, where it is one that can be compared.
fn told_digest(body: &Body) -> Option<Digest> {
    body.header(CONTENT_DIGEST)?.trim().parse().ok()
}

fn mismatch(expected: &Digest, actual: &Digest) -> Failure {
    let cause = Cause::Digest { expected: expected.clone(), actual: actual.clone() };
    Failure::new(cause, format!("digest mismatch: want {expected}, got {actual}"))
}
