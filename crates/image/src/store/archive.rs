//! Archives of images: an OCI layout as directory or tar, or what `docker save` writes. Members of a tar are put into
//! files of our own naming; the archive's names are only looked up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use cricket_model::Digest;
use sha2::{Digest as _, Sha256};

use super::dirs::Staged;
use crate::unpack::{self, Fault};
use crate::{Error, Result};

/// The most members that an archive may have, and bytes of a document.
const MAX_MEMBERS: usize = 10_000;
const MAX_DOCUMENT: u64 = 4 << 20;
/// Links that lead to a member.
const MAX_LINKS: usize = 8;

/// An opened archive: documents and blobs by name.
pub(crate) struct Archive {
    path: PathBuf,
    members: Members,
}

enum Members {
    /// An OCI layout in a directory.
    Dir,
    /// A tar's members, in files of a staging directory.
    Tar { files: HashMap<String, PathBuf>, links: HashMap<String, String>, _staged: Staged },
}

impl Archive {
    /// Opens a directory or a tar (plain or gzip). A tar is unpacked into `staging`.
    pub(crate) fn open(path: &Path, staging: PathBuf) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|e| Error::io("look up", path, e))?;
        let members = if meta.is_dir() { Members::Dir } else { extract(path, staging)? };
        Ok(Self { path: path.to_owned(), members })
    }

    /// A member's file, if there is one.
    pub(crate) fn member(&self, name: &str) -> Option<PathBuf> {
        match &self.members {
            Members::Dir => {
                let inside = name.split('/').all(|c| !matches!(c, "" | "." | ".."));
                let path = self.path.join(name);
                (inside && path.is_file()).then_some(path)
            }
            Members::Tar { files, links, .. } => {
                let mut name = name.to_owned();
                for _ in 0..MAX_LINKS {
                    match links.get(&name) {
                        Some(target) => name.clone_from(target),
                        None => break,
                    }
                }
                files.get(&name).cloned()
            }
        }
    }

    /// A document, bounded.
    pub(crate) fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.member(name) else { return Ok(None) };
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", &path, e))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            let what = format!("{} in {}", name, self.path.display());
            return Err(Error::TooLarge { what, bound: format!("{MAX_DOCUMENT} bytes") });
        }
        Ok(Some(bytes))
    }

    /// A document of an OCI layout by its digest, verified.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let bytes = self.document(&name)?.ok_or_else(|| self.bad(format!("{digest} is missing")))?;
        let actual = Digest::from_sha256(Sha256::digest(&bytes).into());
        if actual == *digest {
            return Ok(bytes);
        }
        let what = format!("{name} in {}", self.path.display());
        Err(Error::Mismatch { what, expected: digest.to_string(), actual: actual.to_string() })
    }

    pub(crate) fn bad(&self, detail: impl Into<String>) -> Error {
        Error::BadImage { what: self.path.display().to_string(), detail: detail.into() }
    }
}

fn extract(path: &Path, staging: PathBuf) -> Result<Members> {
    let bad = |detail: String| Error::BadImage { what: path.display().to_string(), detail };
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut magic = [0u8; 2];
    let n = file.read(&mut magic).map_err(|e| Error::io("read", path, e))?;
    file.rewind().map_err(|e| Error::io("read", path, e))?;
    let plain = BufReader::with_capacity(128 << 10, file);
    let stream: Box<dyn Read> = match &magic[..n] {
        [0x1f, 0x8b] => Box::new(flate2::bufread::MultiGzDecoder::new(plain)),
        _ => Box::new(plain),
    };
    let staged = Staged::create(staging)?;
    let (mut files, mut links) = (HashMap::new(), HashMap::new());
    unpack::each_member(stream, unpack::ARCHIVE_BYTES, |name, kind, link, content| {
        let Some(name) = clean(name, "") else { return Ok(()) };
        if files.len() + links.len() >= MAX_MEMBERS {
            return Err(Fault::bound("members", MAX_MEMBERS.to_string()));
        }
        match kind {
            unpack::Member::File => {
                let place = staged.path().join(files.len().to_string());
                let mut out = File::create_new(&place).map_err(|e| Fault::io("create", &place, e))?;
                std::io::copy(content, &mut out).map_err(|e| Fault::copying(&place, e))?;
                files.insert(name, place);
            }
            unpack::Member::Symlink => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                if let Some(target) = clean(link, parent) {
                    links.insert(name, target);
                }
            }
            unpack::Member::Hardlink => {
                if let Some(target) = clean(link, "") {
                    links.insert(name, target);
                }
            }
        }
        Ok(())
    })
    .map_err(|e| match e {
        Error::BadLayer { detail, .. } => bad(detail),
        other => other,
    })?;
    Ok(Members::Tar { files, links, _staged: staged })
}

/// A member's name, or where a link in `parent` leads; `..` stops at the top.
fn clean(name: &[u8], parent: &str) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let mut out: Vec<&str> = Vec::new();
    for component in parent.split('/').chain(name.split('/')) {
        match component {
            "" | "." => {}
            ".." => drop(out.pop()),
            other => out.push(other),
        }
    }
    (!out.is_empty()).then(|| out.join("/"))
}
