//! Errors become gRPC codes here and nowhere else.

use cricket_model::{ErrorKind, Kinded};
use tonic::{Code, Status};

/// The status of an error. Kubelets tell codes apart only in a few places, and recognise two causes by their text
/// with code UNKNOWN (`k8s.io/cri-api/pkg/errors`).
pub(crate) fn status<E: Kinded>(error: &E) -> Status {
    let text = cricket_pod::Chain(error).to_string();
    let code = match error.kind() {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
        ErrorKind::RegistryUnavailable => return Status::unknown(prefixed("RegistryUnavailable", text)),
        ErrorKind::SignatureValidationFailed => return Status::unknown(prefixed("SignatureValidationFailed", text)),
    };
    Status::new(code, text)
}

fn prefixed(cause: &str, text: String) -> String {
    let rest = text.strip_prefix(cause).map(|r| r.trim_start_matches(':').trim_start().to_owned());
    format!("{cause}: {}", rest.unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cricket_pod::Error;

    #[test]
    fn the_kubelets_two_causes_come_first_and_once() {
        let s = status(&Error::new(ErrorKind::RegistryUnavailable, "connect to r.example: refused"));
        assert_eq!((s.code(), s.message()), (Code::Unknown, "RegistryUnavailable: connect to r.example: refused"));
        let s = status(&Error::new(ErrorKind::RegistryUnavailable, "RegistryUnavailable: refused"));
        assert_eq!(s.message(), "RegistryUnavailable: refused");
    }

    #[test]
    fn a_missing_container_is_not_found() {
        assert_eq!(status(&Error::new(ErrorKind::NotFound, "x")).code(), Code::NotFound);
    }
}
