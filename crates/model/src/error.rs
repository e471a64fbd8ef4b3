//! What kind of failure an error is; `server` turns the kind into a gRPC code in one place.

/// The kinds that callers tell apart. Each crate's error type says its kind through [`Kinded`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed or names something impossible.
    InvalidArgument,
    /// The named object does not exist.
    NotFound,
    /// An object of that name exists and is not the one asked for.
    AlreadyExists,
    /// The object's state does not allow the operation.
    FailedPrecondition,
    /// A bound was hit (memory, size, count, disk space).
    ResourceExhausted,
    /// A registry refused the credentials, or wants some.
    Unauthenticated,
    /// A registry or the kernel forbids it.
    PermissionDenied,
    /// The deadline passed; the message names the stage.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// Something needed is not there right now; a retry may succeed.
    Unavailable,
    /// Not implemented by this build or handler.
    Unimplemented,
    /// Content does not match its digest, or a record cannot be read.
    DataLoss,
    /// A registry cannot be reached or answers 5xx: kubelets recognise `RegistryUnavailable: …`.
    RegistryUnavailable,
    /// A signature policy refused the image: kubelets recognise `SignatureValidationFailed: …`.
    SignatureValidationFailed,
    /// Anything else; the message says what.
    Internal,
}

/// An error that knows its [`ErrorKind`].
pub trait Kinded: std::error::Error {
    /// The kind that decides the gRPC code.
    fn kind(&self) -> ErrorKind;
}
