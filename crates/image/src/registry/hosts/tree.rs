//! The files below `config_path`: which directory is a registry's, and the certificates it names.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, Identity};

use super::clients::Tls;
use super::file::{self, Entry};
use crate::registry::RegistryError;

/// Largest `hosts.toml`, certificate bundle or key, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The endpoints of the first tree that has a directory for the registry or a `_default`, and the file's path.
pub(super) fn find(roots: &[PathBuf], registry: &str) -> Result<Option<(Vec<Entry>, PathBuf)>, RegistryError> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':') {
        // The spelling for file systems that know no colon.
        names.push(format!("{host}_{port}_"));
    }
    names.extend([registry.to_owned(), "_default".to_owned()]);
    let dirs = roots.iter().flat_map(|root| names.iter().map(move |name| root.join(name)));
    let Some(dir) = dirs.into_iter().find(|dir| dir.is_dir()) else { return Ok(None) };
    let path = dir.join("hosts.toml");
    let wrong = |cause: String| RegistryError::Config { path: path.display().to_string(), cause };
    let text = match read(&path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let entry = certificates(&dir).map_err(|e| wrong(e.to_string()))?;
            return Ok(Some((vec![entry], dir)));
        }
        Err(e) => return Err(wrong(e.to_string())),
    };
    let mut unknown = Vec::new();
    let entries = file::parse(&text, &dir, &mut unknown).map_err(wrong)?;
    if !unknown.is_empty() {
        tracing::warn!(path = %path.display(), fields = unknown.join(", "), "fields without a meaning here");
    }
    Ok(Some((entries, path)))
}

/// Docker's layout of a directory without `hosts.toml`: `*.crt` are roots, `*.cert` with `*.key` identify the client.
fn certificates(dir: &Path) -> std::io::Result<Entry> {
    let mut entry = Entry::upstream();
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();
    for path in files {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => entry.roots.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                entry.identities.push((path, Some(key)));
            }
            _ => {}
        }
    }
    Ok(entry)
}

/// Reads the certificates that an endpoint names.
pub(super) fn tls(
    roots: &[PathBuf],
    identities: &[(PathBuf, Option<PathBuf>)],
    skip_verify: bool,
) -> Result<Tls, String> {
    let mut tls = Tls { skip_verify, ..Tls::default() };
    for path in roots {
        let pem = named(path)?;
        let found = Certificate::from_pem_bundle(&pem).map_err(|e| format!("{}: {e}", path.display()))?;
        if found.is_empty() {
            return Err(format!("{}: there is no certificate in it", path.display()));
        }
        tls.roots.extend(found);
    }
    if let Some((cert, key)) = identities.first() {
        let mut pem = named(cert)?;
        if let Some(key) = key {
            pem.push(b'\n');
            pem.extend(named(key)?);
        }
        let identity = Identity::from_pem(&pem).map_err(|e| format!("{}: {e}", cert.display()))?;
        tls.identity = Some(identity);
    }
    if let Some((unused, _)) = identities.get(1) {
        tracing::warn!(path = %unused.display(), "only the first client certificate of an endpoint is used");
    }
    Ok(tls)
}

fn named(path: &Path) -> Result<Vec<u8>, String> {
    read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}
