//! Hostile and legal archives.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod bounds;
mod gnu;
mod hostile;
mod rules;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cricket_model::Digest;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::{Expected, LayerMeta, Limits, unpack};
use crate::Result;

/// Writes archives with any name and field, legal or not.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.as_mut_bytes()[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        header.set_size(size);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header
    }

    pub(super) fn raw(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        let header = Self::header(EntryType::Regular, name.as_bytes(), data.len() as u64);
        self.raw(header, data)
    }

    pub(super) fn dir(self, name: &str, mode: u32) -> Self {
        let mut header = Self::header(EntryType::Directory, name.as_bytes(), 0);
        header.set_mode(mode);
        self.raw(header, b"")
    }

    pub(super) fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, name.as_bytes(), 0);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    pub(super) fn hardlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    /// An extended header for the next entry.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            write!(data, "{length} {key}=").unwrap();
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let header = Self::header(EntryType::XHeader, b"pax", data.len() as u64);
        self.raw(header, &data)
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub(super) fn sha(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Mode of the directory outside, which no archive has.
const OUTSIDE: u32 = 0o751;

/// A layer unpacked into a directory of its own, next to a file that nobody may touch.
pub(super) struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("layer")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/witness"), "untouched").unwrap();
        let mode = std::fs::Permissions::from_mode(OUTSIDE);
        std::fs::set_permissions(dir.path().join("outside"), mode).unwrap();
        Self { dir }
    }

    pub(super) fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.layer().join("fs").join(path)
    }

    pub(super) fn unpack(&self, tar: &[u8]) -> Result<LayerMeta> {
        self.unpack_blob(tar, tar, &Limits::default())
    }

    pub(super) fn unpack_blob(&self, blob: &[u8], tar: &[u8], limits: &Limits) -> Result<LayerMeta> {
        let expected = Expected { blob: Some(sha(blob)), size: Some(blob.len() as u64), diff_id: sha(tar) };
        unpack(blob, &self.layer(), &expected, limits).map(|u| u.meta)
    }

    /// Everything in the layer, and nothing was done outside.
    pub(super) fn names(&self) -> Vec<String> {
        self.assert_outside_untouched();
        let mut names = Vec::new();
        walk(&self.layer().join("fs"), Path::new(""), &mut names);
        names.sort();
        names
    }

    pub(super) fn assert_outside_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.outside()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["witness"]);
        let outside = self.outside().metadata().unwrap();
        assert_eq!((outside.mode() & 0o7777, outside.uid(), outside.gid()), (OUTSIDE, 0, 0));
        let witness = self.outside().join("witness");
        assert_eq!(std::fs::read_to_string(&witness).unwrap(), "untouched");
        assert_eq!(witness.metadata().unwrap().nlink(), 1);
        assert_eq!(witness.metadata().unwrap().mode() & 0o7777, 0o644);
    }
}

fn walk(root: &Path, below: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        names.push(path.to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            walk(root, &path, names);
        }
    }
}
