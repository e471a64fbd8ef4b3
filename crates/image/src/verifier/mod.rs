//! Image verifiers: programs of the node that decide whether an image may be pulled.
//!
//! The contract is containerd's for `io.containerd.image-verifier.v1.bindir` (docs/image-verification.md there): every
//! entry of a directory is run with `-name REFERENCE -digest DIGEST -stdin-media-type TYPE` and the image's descriptor on
//! its standard input; status 0 lets the image pass, all of them have to. What they print is the reason.
//!
//! Invariants: nothing of an image's layers is fetched before the last verifier has agreed; a verifier that cannot be
//! run, takes too long or is killed has not agreed.

mod run;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::registry::Resolved;
use crate::{Error, Result};

/// What the standard input of a verifier is (image-spec, "OCI Content Descriptors").
const INPUT_TYPE: &str = "application/vnd.oci.descriptor.v1+json";
/// Longest reason in an error, in characters.
const MAX_REASON: usize = 2048;

/// Where verifiers are, and their bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierConfig {
    /// The directory; without it, or with nothing in it, every image passes.
    pub bin_dir: PathBuf,
    /// How many of its entries are run, in the order of their names; `None`: all.
    pub max_verifiers: Option<usize>,
    /// How long each may take.
    pub timeout: Duration,
}

impl Default for VerifierConfig {
    /// containerd's defaults.
    fn default() -> Self {
        Self {
            bin_dir: "/opt/containerd/image-verifier/bin".into(),
            max_verifiers: Some(10),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The image's descriptor, as verifiers read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: &'a str,
    size: u64,
}

impl VerifierConfig {
    /// Asks the verifiers whether the image may be pulled.
    ///
    /// # Errors
    /// [`Error::Verification`] with the first that did not agree and its reason.
    pub(crate) async fn check(&self, image: &Resolved) -> Result<()> {
        let name = image.reference.canonical();
        let refused = |verifier: String, cause: String| Error::Verification {
            image: name.clone(),
            digest: image.digest.clone(),
            verifier,
            cause,
        };
        let shown = || self.bin_dir.display().to_string();
        let entries = self.entries().await.map_err(|e| refused(shown(), format!("cannot be listed: {e}")))?;
        if entries.is_empty() {
            return Ok(());
        }
        let count = entries.len();
        let run = self.max_verifiers.unwrap_or(count).min(count);
        if run < count {
            tracing::warn!(dir = %shown(), verifiers = count, run, "more image verifiers than max_verifiers, the last are skipped");
        }
        let descriptor = Descriptor { media_type: &image.media_type, digest: image.digest.as_str(), size: image.size };
        let input = serde_json::to_vec(&descriptor).map_err(|e| refused(shown(), e.to_string()))?;
        let args = ["-name", &name, "-digest", image.digest.as_str(), "-stdin-media-type", INPUT_TYPE];
        for entry in entries.into_iter().take(run) {
            let verifier = readable(&entry.to_string_lossy());
            match run::run(&self.bin_dir.join(&entry), &args, &input, self.timeout).await {
                Ok(judgement) if judgement.status.success() => {
                    tracing::debug!(
                        image = name,
                        verifier,
                        reason = readable(&judgement.reason),
                        "image verifier agreed"
                    );
                }
                Ok(judgement) => {
                    let cause = match (judgement.status.code(), judgement.reason.is_empty()) {
                        (Some(code), false) => format!("refused (status {code}): {}", readable(&judgement.reason)),
                        (Some(code), true) => format!("refused (status {code}) and gave no reason"),
                        (None, _) => format!("gave no judgement: {}", judgement.status),
                    };
                    return Err(refused(verifier, cause));
                }
                Err(e) => return Err(refused(verifier, format!("gave no judgement: {e}"))),
            }
        }
        Ok(())
    }

    /// The entries' names, sorted; none without the directory.
    async fn entries(&self) -> io::Result<Vec<OsString>> {
        let dir = self.bin_dir.clone();
        let list = move || match std::fs::read_dir(dir) {
            Ok(entries) => {
                let mut names = entries.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
                names.sort();
                Ok(names)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        };
        tokio::task::spawn_blocking(list).await.map_err(io::Error::other)?
    }
}

/// One line of bounded length: it goes into events and logs.
fn readable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.trim().chars().map(plain).take(MAX_REASON).collect();
    if text.trim().chars().nth(MAX_REASON).is_some() {
        line.push_str(" (cut)");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_one_bounded_line() {
        assert_eq!(readable(" a\nb\u{1b}[0m\n"), "a b [0m");
        let long = readable(&"x".repeat(MAX_REASON + 1));
        assert!(long.ends_with("x (cut)") && long.len() == MAX_REASON + 6, "{}", long.len());
    }

    #[test]
    fn descriptors_are_those_of_the_image_specification() {
        let descriptor = Descriptor { media_type: "m", digest: "sha256:0", size: 7 };
        let json = serde_json::to_string(&descriptor).expect("json");
        assert_eq!(json, r#"{"mediaType":"m","digest":"sha256:0","size":7}"#);
    }
}
