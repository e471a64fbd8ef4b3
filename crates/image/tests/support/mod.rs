//! A registry on loopback that counts what it is asked for, and images for it.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use cricket_image::{ImageStore, ImageStoreConfig};
use cricket_model::Digest;
use sha2::{Digest as _, Sha256};

pub(crate) fn sha(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// A layer's archive out of (name, content); a name that ends in `/` is a directory with the mode in its content.
pub(crate) fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        let data = if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(u32::from_str_radix(content, 8).unwrap());
            &[][..]
        } else if let Some(target) = content.strip_prefix("hard:") {
            header.set_entry_type(tar::EntryType::Link);
            header.set_link_name(target).unwrap();
            header.set_mode(0o644);
            &[][..]
        } else if let Some(target) = content.strip_prefix("link:") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name(target).unwrap();
            header.set_mode(0o777);
            &[][..]
        } else {
            header.set_mode(0o644);
            content.as_bytes()
        };
        header.set_size(data.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        tar.append_data(&mut header, name, data).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// The documents of an image.
pub(crate) struct Made {
    pub(crate) id: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) diff_ids: Vec<Digest>,
}

/// An image of gzipped layers; `label` makes its config different.
pub(crate) fn image(label: &str, tars: &[Vec<u8>]) -> Made {
    let diff_ids: Vec<Digest> = tars.iter().map(|t| sha(t)).collect();
    let config = serde_json::json!({
        "architecture": cricket_image::host_platform().architecture,
        "os": "linux",
        "config": {"Env": ["A=b"], "Labels": {"label": label}, "Volumes": {"/data": {}}, "Cmd": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let layers: Vec<Vec<u8>> = tars.iter().map(|t| gzip(t)).collect();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|l| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha(l), "size": l.len(),
            })
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha(&config), "size": config.len(),
        },
        "layers": descriptors,
    });
    Made { id: sha(&config), manifest: serde_json::to_vec(&manifest).unwrap(), config, layers, diff_ids }
}

#[derive(Default)]
struct Content {
    tags: HashMap<String, Digest>,
    blobs: HashMap<Digest, Vec<u8>>,
    asked: HashMap<String, usize>,
    held: Vec<Digest>,
    /// Blobs of which only so many bytes are sent until the release.
    slow: HashMap<Digest, usize>,
    /// Where ranges that were asked for began.
    ranges: Vec<usize>,
}

/// The registry; ends with the test.
#[derive(Clone)]
pub(crate) struct Registry {
    content: Arc<(Mutex<Content>, Condvar)>,
    port: u16,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = Self { content: Arc::default(), port };
        let serving = registry.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        registry
    }

    /// Puts an image under a tag of the repositories `repo` and `other`, which are one.
    pub(crate) fn push(&self, tag: &str, made: &Made) {
        let mut content = self.content.0.lock().unwrap();
        for blob in made.layers.iter().chain([&made.manifest, &made.config]) {
            content.blobs.insert(sha(blob), blob.clone());
        }
        content.tags.insert(tag.to_owned(), sha(&made.manifest));
    }

    /// Changes a blob's bytes but not its name.
    pub(crate) fn corrupt(&self, digest: &Digest, bytes: Vec<u8>) {
        self.content.0.lock().unwrap().blobs.insert(digest.clone(), bytes);
    }

    /// Answers no request for this blob until `release`.
    pub(crate) fn hold(&self, digest: &Digest) {
        self.content.0.lock().unwrap().held.push(digest.clone());
    }

    /// Sends the first `length` bytes of this blob, and the rest after `release`.
    pub(crate) fn hold_after(&self, digest: &Digest, length: usize) {
        self.content.0.lock().unwrap().slow.insert(digest.clone(), length);
    }

    /// Where the parts of blobs began that were asked for, as one asks for the rest of something.
    pub(crate) fn ranges(&self) -> Vec<usize> {
        self.content.0.lock().unwrap().ranges.clone()
    }

    pub(crate) fn release(&self) {
        let mut content = self.content.0.lock().unwrap();
        content.held.clear();
        content.slow.clear();
        drop(content);
        self.content.1.notify_all();
    }

    /// How often a blob was fetched.
    pub(crate) fn fetched(&self, blob: &[u8]) -> usize {
        let content = self.content.0.lock().unwrap();
        content.asked.get(&format!("GET blobs/{}", sha(blob))).copied().unwrap_or(0)
    }

    /// Waits until a blob was asked for.
    pub(crate) async fn asked_for(&self, blob: &[u8]) {
        while self.fetched(blob) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn config(&self, dir: &Path) -> ImageStoreConfig {
        let mut config = ImageStoreConfig::new(dir.join("root"), dir.join("state"));
        config.registry.mirrors.insert("r.test".to_owned(), vec![format!("http://127.0.0.1:{}", self.port)]);
        config
    }

    pub(crate) async fn store(&self, dir: &Path) -> ImageStore {
        ImageStore::open(self.config(dir), records(dir).await).await.unwrap()
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() {
            return;
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
        let (mut header, mut from) = (String::new(), None);
        while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
            let lower = header.to_lowercase();
            let range =
                lower.strip_prefix("range: bytes=").and_then(|r| r.trim().strip_suffix('-')?.parse::<usize>().ok());
            from = from.or(range);
            header.clear();
        }
        let path = target.split('?').next().unwrap_or_default();
        let what = ["/v2/repo/", "/v2/other/"].iter().find_map(|at| path.strip_prefix(at)).unwrap_or_default();
        let found = self.lookup(method, what);
        let (status, kind, body) = match found {
            Some((kind, body)) => ("200 OK", kind, body),
            None => ("404 Not Found", "application/json", b"{}".to_vec()),
        };
        let digest = sha(&body);
        let mut out = stream;
        let (status, part, range) = match from.filter(|from| *from < body.len()) {
            None => (status, &body[..], String::new()),
            Some(from) => {
                self.content.0.lock().unwrap().ranges.push(from);
                let range = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
                ("206 Partial Content", &body[from..], range)
            }
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{range}Docker-Content-Digest: {digest}\r\nConnection: close\r\n\r\n",
            part.len()
        );
        let _ = out.write_all(head.as_bytes());
        if method != "GET" {
            return;
        }
        let first = self.content.0.lock().unwrap().slow.get(&digest).copied().unwrap_or(part.len()).min(part.len());
        let _ = out.write_all(&part[..first]);
        let mut content = self.content.0.lock().unwrap();
        while content.slow.contains_key(&digest) {
            content = self.content.1.wait(content).unwrap();
        }
        drop(content);
        let _ = out.write_all(&part[first..]);
    }

    fn lookup(&self, method: &str, what: &str) -> Option<(&'static str, Vec<u8>)> {
        let (kind, name) = what.split_once('/')?;
        let mut content = self.content.0.lock().unwrap();
        *content.asked.entry(format!("{method} {what}")).or_default() += 1;
        let digest = match name.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => content.tags.get(name)?.clone(),
        };
        while content.held.contains(&digest) {
            content = self.content.1.wait(content).unwrap();
        }
        let kind = match kind {
            "manifests" => "application/vnd.oci.image.manifest.v1+json",
            _ => "application/octet-stream",
        };
        Some((kind, content.blobs.get(&digest)?.clone()))
    }
}

/// The records of a store in `dir`. One that was dropped just now may still be ending a collection.
pub(crate) async fn records(dir: &Path) -> cricket_store::Store {
    std::fs::create_dir_all(dir.join("root")).unwrap();
    for _ in 0..1000 {
        match cricket_store::Store::open(dir.join("root/records.redb")) {
            Err(cricket_store::Error::Locked { .. }) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the records stay locked");
}

/// Waits for something that happens in the background.
pub(crate) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{what}: not within ten seconds");
}

/// Names in a directory of the store.
pub(crate) fn names(dir: &Path, below: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("root/images").join(below)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
