//! How one endpoint failed, and what several failures amount to.

use cricket_model::Digest;

use super::error::{Attempt, Attempts, RegistryError};

/// Longest cause that is passed on, in characters: some of it comes from the registry.
const MAX_TEXT: usize = 400;

/// The kind of an endpoint's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    NotFound,
    Unauthorized,
    Forbidden,
    RateLimited,
    Unavailable,
    TimedOut,
    Invalid,
    /// The server has no such part of a blob (416).
    Range,
    Digest {
        expected: Digest,
        actual: Digest,
    },
}

/// One endpoint's failure.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(cause: Cause, text: impl AsRef<str>) -> Self {
        Self { cause, text: clean(text.as_ref()) }
    }

    /// A transfer that broke or was never established.
    pub(crate) fn transport(error: reqwest::Error) -> Self {
        let cause = if error.is_timeout() && !error.is_connect() { Cause::TimedOut } else { Cause::Unavailable };
        let connect = error.is_connect();
        // The address may carry a signature; the endpoint is named anyway.
        let error = error.without_url();
        let mut parts: Vec<String> = Vec::new();
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = next {
            let text = error.to_string();
            // The libraries' own layers say nothing that a person can use.
            let hollow = text == "error sending request" || text.starts_with("client error (");
            if !hollow && parts.last().is_none_or(|last| !last.ends_with(&text)) {
                parts.push(text);
            }
            next = error.source();
        }
        let text = format!("{}{}", if connect { "cannot connect: " } else { "" }, parts.join(": "));
        Self::new(cause, text)
    }
}

/// Text from outside, without control characters and cut.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

/// The failures of one operation, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures(Vec<(String, Failure)>);

impl Failures {
    /// Remembers what an endpoint answered; its newest failure replaces the older ones.
    pub(crate) fn add(&mut self, endpoint: &str, failure: Failure) {
        tracing::debug!(endpoint, cause = failure.text, "registry endpoint failed");
        self.0.retain(|(e, _)| e != endpoint);
        self.0.push((endpoint.to_owned(), failure));
    }

    /// The error of the whole. The last endpoint, which is the registry itself, decides; if it could not be reached,
    /// the first mirror that said more than "not here" does.
    pub(crate) fn into_error(self, what: String) -> RegistryError {
        let unreachable = |f: &Failure| matches!(f.cause, Cause::Unavailable | Cause::TimedOut);
        let last = self.0.last();
        let deciding = match last {
            Some((_, f)) if unreachable(f) => {
                self.0.iter().find(|(_, f)| !unreachable(f) && f.cause != Cause::NotFound).or(last)
            }
            last => last,
        };
        let cause = deciding.map(|(_, f)| f.cause.clone());
        let attempt = |(endpoint, f): &(String, Failure)| Attempt { endpoint: endpoint.clone(), cause: f.text.clone() };
        let attempts = Attempts(self.0.iter().map(attempt).collect());
        match cause {
            Some(Cause::NotFound) => RegistryError::NotFound { what, attempts },
            Some(Cause::Unauthorized) => RegistryError::Unauthorized { what, attempts },
            Some(Cause::Forbidden) => RegistryError::Forbidden { what, attempts },
            Some(Cause::RateLimited) => RegistryError::RateLimited { what, attempts },
            Some(Cause::Unavailable) => RegistryError::Unavailable { what, attempts },
            Some(Cause::TimedOut) => RegistryError::TimedOut { what, attempts },
            Some(Cause::Invalid | Cause::Range) => RegistryError::Invalid { what, cause: attempts.to_string() },
            Some(Cause::Digest { expected, actual }) => {
                let what = format!("{what} from {}", deciding.map_or("", |(e, _)| e));
                RegistryError::DigestMismatch { what, expected, actual }
            }
            None => {
                let cause = "no configured endpoint may serve this".to_owned();
                RegistryError::Config { path: what, cause }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cricket_model::{ErrorKind, Kinded};

    use super::*;

    fn error(causes: &[Cause]) -> RegistryError {
        let mut failures = Failures::default();
        for (i, cause) in causes.iter().enumerate() {
            failures.add(&format!("https://h{i}"), Failure::new(cause.clone(), format!("cause {i}")));
        }
        failures.into_error("pull x".to_owned())
    }

    #[test]
    fn the_registry_itself_decides_if_it_was_reached() {
        use Cause::*;
        for (causes, kind) in [
            (vec![Unavailable, NotFound], ErrorKind::NotFound),
            (vec![Unauthorized, NotFound], ErrorKind::NotFound),
            (vec![NotFound, Unavailable], ErrorKind::RegistryUnavailable),
            (vec![RateLimited, Unavailable], ErrorKind::ResourceExhausted),
            (vec![NotFound, Unauthorized], ErrorKind::Unauthenticated),
            (vec![Forbidden], ErrorKind::PermissionDenied),
            (vec![TimedOut], ErrorKind::DeadlineExceeded),
            (vec![Invalid], ErrorKind::InvalidArgument),
            (vec![], ErrorKind::FailedPrecondition),
        ] {
            let error = error(&causes);
            assert_eq!(error.kind(), kind, "{causes:?}");
            for i in 0..causes.len() {
                assert!(error.to_string().contains(&format!("https://h{i}: cause {i}")), "{error}");
            }
        }
    }

    #[test]
    fn text_from_outside_is_tamed() {
        let failure = Failure::new(Cause::Invalid, format!("a\nb\x1b{}", "x".repeat(1000)));
        assert!(failure.text.starts_with("a b x"));
        assert_eq!(failure.text.chars().count(), MAX_TEXT);
    }
}
