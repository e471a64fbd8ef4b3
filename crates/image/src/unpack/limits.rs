//! The bounds of a layer, and how unpacking fails.

use std::io;
use std::path::Path;

use crate::Error;

/// What a layer may be at most.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Entries in the archive.
    pub(crate) entries: u64,
    /// Bytes of the inflated archive.
    pub(crate) bytes: u64,
    /// Bytes of one extended header or long name.
    pub(crate) header: u64,
    /// Bytes of names and values of one entry's extended attributes.
    pub(crate) xattrs: usize,
    /// Implied directories, and hard links to lower layers, that are remembered: count and bytes of their paths.
    pub(crate) noted: usize,
    pub(crate) noted_bytes: usize,
    /// log2 of the zstd window.
    pub(crate) zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            bytes: 64 << 30,
            header: 1 << 20,
            xattrs: 64 << 10,
            noted: 200_000,
            noted_bytes: 16 << 20,
            zstd_window_log: 27,
        }
    }
}

/// Why unpacking stopped.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The archive is malformed or forbidden.
    Bad(String),
    /// A bound was hit.
    Bound { what: String, bound: String },
    /// The source or the disk failed.
    Failed(Error),
}

impl Fault {
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Fault::Bad(detail.into())
    }

    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, e: impl Into<io::Error>) -> Self {
        Fault::Failed(Error::io(op, path, e))
    }

    pub(crate) fn bound(what: impl Into<String>, bound: impl Into<String>) -> Self {
        Fault::Bound { what: what.into(), bound: bound.into() }
    }

    /// An error of a reader: one of ours in disguise, or the inflater's opinion of its input.
    pub(crate) fn reading(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            return Fault::bad("the archive ends early");
        }
        match e.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(e) => Fault::Bad(format!("the archive cannot be read: {e}")),
        }
    }

    /// An error of copying a reader of ours to `path`: what the reader carried, else the disk's.
    pub(crate) fn copying(path: &Path, e: io::Error) -> Self {
        match e.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(e) => Fault::io("write", path, e),
        }
    }

    /// Lets the fault travel through [`io::Read`].
    pub(crate) fn carry(self) -> io::Error {
        io::Error::other(Carried(self))
    }

    pub(crate) fn into_error(self, layer: &str) -> Error {
        match self {
            Fault::Bad(detail) => Error::BadLayer { layer: layer.to_owned(), detail },
            Fault::Bound { what, bound } => Error::TooLarge { what: format!("layer {layer}: {what}"), bound },
            Fault::Failed(e) => e,
        }
    }
}

#[derive(Debug)]
struct Carried(Fault);

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Carried {}
