//! Names of images, as the distribution specification's implementations read them.
//!
//! ```text
//! [registry[:port]/]path[/path…][:tag][@sha256:hex]
//! ```
//!
//! What a user writes is completed: no registry means `docker.io`, a single word there lies in `library/`, no tag
//! means `latest`. With a digest the tag says nothing any more and is dropped, so a [`Reference`] has one of both.
//!
//! Invariants: every part of a [`Reference`] matched the grammar, so it is safe in a URL path and, for the registry
//! and the tag, as a file name.

mod grammar;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use cricket_model::{Digest, ErrorKind, Kinded};

/// The registry that a name without one belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The path prefix of one-word names in [`DEFAULT_REGISTRY`].
const LIBRARY: &str = "library/";
/// The tag when neither tag nor digest is given.
pub const DEFAULT_TAG: &str = "latest";

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {text:?}: {reason}")]
pub struct InvalidReference {
    /// The text, cut after 300 characters.
    pub text: String,
    /// The rule that it breaks.
    pub reason: String,
}

impl Kinded for InvalidReference {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Version {
    Tag(String),
    Digest(Digest),
}

/// A complete name of an image: registry, repository, and a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    version: Version,
}

impl Reference {
    /// Reads what a user wrote and completes it.
    ///
    /// # Errors
    /// The text breaks the grammar; the error says which rule.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        Self::parse_inner(text).map_err(|reason| InvalidReference { text: text.chars().take(300).collect(), reason })
    }

    fn parse_inner(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        if text.len() > grammar::MAX_TEXT {
            return Err(format!("it is longer than {} bytes", grammar::MAX_TEXT));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|e| e.to_string())?)),
            None => (text, None),
        };
        if digest.is_none() && name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("64 hexadecimal digits are an image ID, not a name".to_owned());
        }
        let (registry, rest) = split_registry(name);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        grammar::check_registry(registry)?;
        let repository = match registry == DEFAULT_REGISTRY && !path.contains('/') {
            true => format!("{LIBRARY}{path}"),
            false => path.to_owned(),
        };
        grammar::check_repository(path, &repository)?;
        if let Some(tag) = tag {
            grammar::check_tag(tag)?;
        }
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, version })
    }

    /// The registry's host, with its port if one was given: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry: `library/pause`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none if a digest was given.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }

    /// The complete text, `docker.io/library/pause:latest` or `docker.io/library/pause@sha256:…`: what records use.
    pub fn canonical(&self) -> String {
        self.to_string()
    }

    /// Registry and repository: `docker.io/library/pause`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The shortest text that parses to this, but with its tag: `pause:latest`.
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        let Some(path) = text.strip_prefix(DEFAULT_REGISTRY).and_then(|t| t.strip_prefix('/')) else {
            return text;
        };
        let short = path.strip_prefix(LIBRARY).filter(|rest| !rest.contains('/')).unwrap_or(path);
        // A first component that looks like a host would be read as one.
        if Self::parse(short).as_ref() == Ok(self) { short.to_owned() } else { text.clone() }
    }

    /// The same repository at a digest: the form of repo digests.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { version: Version::Digest(digest), ..self.clone() }
    }

    /// What stands behind `manifests/` in a registry's URL: the tag or the digest.
    pub(crate) fn version(&self) -> &str {
        match &self.version {
            Version::Tag(tag) => tag,
            Version::Digest(digest) => digest.as_str(),
        }
    }
}

/// Splits the registry off. The first component is one if it could not be a repository's: it has a dot, a port, an
/// upper-case letter, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            // The name that Docker's first registry had, still found in old files.
            (if first == "index.docker.io" { DEFAULT_REGISTRY } else { first }, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if matches!(self.version, Version::Tag(_)) { ':' } else { '@' };
        write!(f, "{}/{}{sign}{}", self.registry, self.repository, self.version())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse(text)
    }
}
