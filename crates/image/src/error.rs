//! What can go wrong with images.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_model::{ContainerId, Digest, ErrorKind, Kinded};

use crate::reference::InvalidReference;
use crate::registry::RegistryError;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the image store. Cheap to clone: everyone who shares a download gets its error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The name is no image reference and no image ID.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The registry refused, could not be reached, or sent something else than it promised.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The records cannot be read or written.
    #[error(transparent)]
    Records(#[from] cricket_store::Error),
    /// An ID prefix that several images share.
    #[error("image id {prefix} is ambiguous: {count} images start with it")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many images match.
        count: usize,
    },
    /// There is no such image.
    #[error("image {name}: not found")]
    ImageNotFound {
        /// What was asked for.
        name: String,
    },
    /// The container has no root filesystem here.
    #[error("container {container}: no root filesystem is recorded")]
    NoRootfs {
        /// The container.
        container: ContainerId,
    },
    /// A layer or document is not what its digest says.
    #[error("{what}: want {expected}, got {actual}")]
    Mismatch {
        /// What was hashed.
        what: String,
        /// What was promised.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// A layer's archive is malformed or tries something that no layer may.
    #[error("layer {layer}: {detail}")]
    BadLayer {
        /// The layer's blob digest.
        layer: String,
        /// What is wrong, naming the entry.
        detail: String,
    },
    /// A layer or image is over one of the bounds.
    #[error("{what}: over the bound of {bound}")]
    TooLarge {
        /// The layer, entry or image.
        what: String,
        /// The bound, with its unit.
        bound: String,
    },
    /// An image's documents, or an archive of images, make no sense.
    #[error("{what}: {detail}")]
    BadImage {
        /// The image or file.
        what: String,
        /// What is wrong.
        detail: String,
    },
    /// A verifier of the node did not let the image be pulled.
    #[error("{image} with digest {digest}: image verifier {verifier} {cause}")]
    Verification {
        /// The image's canonical name.
        image: String,
        /// What the name was resolved to.
        digest: Digest,
        /// The verifier's file name, or their directory.
        verifier: String,
        /// Its reason, or why there is none.
        cause: String,
    },
    /// A layer that is needed is gone and nothing is known to fetch it from.
    #[error("layer {layer}: missing, and no registry or kept file has it: {detail}")]
    LayerLost {
        /// The layer's diff ID.
        layer: Digest,
        /// Why it cannot be had.
        detail: String,
    },
    /// The file system is full.
    #[error("{}: {op}: no space left: {source}", path.display())]
    NoSpace {
        /// What was being done.
        op: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// A system call failed.
    #[error("{}: {op}: {source}", path.display())]
    Io {
        /// What was being done.
        op: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The pull was given up because everyone who waited for it went away.
    #[error("{what}: cancelled")]
    Cancelled {
        /// The image or layer.
        what: String,
    },
    /// A task of the store ended without an answer.
    #[error("{what}: ended without an answer")]
    Ended {
        /// What it did.
        what: String,
    },
}

impl Error {
    /// An I/O error of `path`; full disks and exhausted quotas are told apart.
    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let (source, path) = (source.into(), path.as_ref().to_owned());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { op, path, source: Arc::new(source) }
            }
            _ => Error::Io { op, path, source: Arc::new(source) },
        }
    }
}

impl Kinded for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Reference(e) => e.kind(),
            Error::Registry(e) => e.kind(),
            Error::Records(e) => e.kind(),
            Error::Ambiguous { .. } | Error::BadLayer { .. } | Error::BadImage { .. } => ErrorKind::InvalidArgument,
            Error::ImageNotFound { .. } | Error::NoRootfs { .. } => ErrorKind::NotFound,
            Error::Mismatch { .. } => ErrorKind::DataLoss,
            Error::Verification { .. } => ErrorKind::SignatureValidationFailed,
            Error::LayerLost { .. } => ErrorKind::Unavailable,
            Error::TooLarge { .. } | Error::NoSpace { .. } => ErrorKind::ResourceExhausted,
            Error::Cancelled { .. } => ErrorKind::Cancelled,
            Error::Io { .. } | Error::Ended { .. } => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_told_like_full_disks() {
        use rustix::io::Errno;
        for (errno, kind) in [
            (Errno::NOSPC, ErrorKind::ResourceExhausted),
            (Errno::DQUOT, ErrorKind::ResourceExhausted),
            (Errno::ROFS, ErrorKind::Internal),
            (Errno::IO, ErrorKind::Internal),
        ] {
            let error = Error::io("write", "/x", errno);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains("/x"), "{error}");
        }
    }
}
