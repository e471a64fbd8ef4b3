//! A layer's manifest: one JSON line for each thing that was made, in the order of the archive.
//!
//! Where an archive names a path twice the later line counts, and a line of kind `gone` says that everything at and
//! below a path was replaced.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::limits::Fault;
use super::tarball;
use crate::{Error, Result};

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Hardlink,
    Char,
    Block,
    Fifo,
    Whiteout,
    Gone,
}

impl From<tarball::Kind> for Kind {
    fn from(kind: tarball::Kind) -> Self {
        match kind {
            tarball::Kind::File => Kind::File,
            tarball::Kind::Dir => Kind::Dir,
            tarball::Kind::Symlink => Kind::Symlink,
            tarball::Kind::Hardlink => Kind::Hardlink,
            tarball::Kind::Char => Kind::Char,
            tarball::Kind::Block => Kind::Block,
            tarball::Kind::Fifo => Kind::Fifo,
        }
    }
}

/// One line. Paths are relative to the layer's directory, escaped (see `escape`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Path.
    pub(crate) p: String,
    /// Kind.
    pub(crate) k: Kind,
    /// Mode bits, 07777.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) m: u32,
    /// Owner.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) u: u32,
    /// Group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) g: u32,
    /// Size of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) s: Option<u64>,
    /// BLAKE3 of a file's content (`hash_file`, `hash_sparse`), hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) h: Option<String>,
    /// Target of a link, escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) l: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Writes lines as the layer is unpacked.
pub(crate) struct Writer {
    out: BufWriter<File>,
    path: PathBuf,
}

impl Writer {
    pub(crate) fn create(path: PathBuf) -> std::result::Result<Self, Fault> {
        let file = File::create_new(&path).map_err(|e| Fault::io("create", &path, e))?;
        Ok(Self { out: BufWriter::with_capacity(64 << 10, file), path })
    }

    pub(crate) fn add(&mut self, entry: &Entry) -> std::result::Result<(), Fault> {
        let written = serde_json::to_writer(&mut self.out, entry).map_err(std::io::Error::from);
        written.and_then(|()| self.out.write_all(b"\n")).map_err(|e| Fault::io("write", &self.path, e))
    }

    pub(crate) fn finish(mut self) -> std::result::Result<(), Fault> {
        self.out.flush().map_err(|e| Fault::io("write", &self.path, e))
    }
}

/// Calls `each` for every line.
pub(crate) fn read(path: &Path, mut each: impl FnMut(Entry) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    for line in BufReader::with_capacity(64 << 10, file).lines() {
        let line = line.map_err(|e| Error::io("read", path, e))?;
        let entry = serde_json::from_str(&line).map_err(|e| Error::io("decode", path, std::io::Error::other(e)))?;
        each(entry)?;
    }
    Ok(())
}

/// BLAKE3 of everything that can be read.
pub(crate) fn hash_file(mut file: impl Read) -> std::io::Result<String> {
    let (mut hash, mut buf) = (blake3::Hasher::new(), vec![0u8; 128 << 10]);
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(hash.finalize().to_hex().to_string()),
            n => drop(hash.update(&buf[..n])),
        }
    }
}

/// What stands before the hash of a sparse file.
pub(crate) const SPARSE: &str = "sparse:";

/// BLAKE3 of the positions and contents of all blocks of a file that are not zero: holes may be endless, and where
/// they are is the file system's choice.
pub(crate) fn hash_sparse(file: &File) -> std::io::Result<String> {
    const BLOCK: u64 = 4096;
    let (mut hash, mut buf, mut at) = (blake3::Hasher::new(), vec![0u8; 4096], 0u64);
    loop {
        at = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data / BLOCK * BLOCK,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let mut filled = 0;
        while filled < buf.len() {
            match file.read_at(&mut buf[filled..], at + filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        let block = &buf[..filled];
        if block.iter().any(|b| *b != 0) {
            hash.update(&at.to_le_bytes()).update(block);
        }
        at += BLOCK;
    }
    Ok(format!("{SPARSE}{}", hash.finalize().to_hex()))
}

/// A path as text: UTF-8 as it is but for `%` and control characters, which become `%XX` as other bytes do.
pub(crate) fn escape(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_ascii_control() { text.push_str(&format!("%{:02X}", c as u32)) } else { text.push(c) }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The inverse of [`escape`].
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while i < bytes.len() {
        let code = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match code.and_then(|c| u8::from_str_radix(c, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    out
}
