//! Deadlines of callers. The transport ends a call at its deadline too, but answers CANCELLED then, which kubelets do
//! not take for a timeout; so the call is ended here first, by the code that gRPC has for it, and with what it waited for.

use std::time::Duration;

use cricket_pod::WaitedFor;
use http::{HeaderMap, Response};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

/// How much earlier than its caller a call is given up, at most, and as a part of the caller's time: an answer that says
/// what was waited for has to come before the caller gives up by itself.
const EARLIER: Duration = Duration::from_millis(250);
const PART: u32 = 20;

/// When a request is given up, just before its caller does (gRPC over HTTP/2, "Timeout"); none when it waits for ever.
pub(super) fn of(headers: &HeaderMap) -> Option<Instant> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let valid = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_digit());
    let n: u64 = digits.parse().ok().filter(|_| valid)?;
    let limit = match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    };
    Instant::now().checked_add(limit - EARLIER.min(limit / PART))
}

/// The answer, or that the deadline came first; the work is then given up as when a caller goes away.
pub(super) async fn within<E>(
    deadline: Option<Instant>,
    rpc: &str,
    answer: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    let Some(deadline) = deadline else { return answer.await };
    let waited = WaitedFor::default();
    let mut answer = Box::pin(waited.scope(answer));
    if let Ok(answer) = tokio::time::timeout_at(deadline, &mut answer).await {
        return answer;
    }
    drop(answer);
    let stage = waited.stage().map(|stage| format!(" while it waited for: {stage}")).unwrap_or_default();
    tracing::warn!(rpc, "the caller's deadline is over{stage}");
    Ok(Status::deadline_exceeded(format!("{rpc}: the caller's deadline is over{stage}")).into_http())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("a header"));
        of(&headers).map(|deadline| deadline - Instant::now())
    }

    #[test]
    fn every_unit_and_nothing_else() {
        for (text, seconds) in [("2H", 7200), ("3M", 180), ("4S", 4), ("5000m", 5), ("6000000u", 6)] {
            let left = limit(text).expect(text);
            assert!(
                left <= Duration::from_secs(seconds) && left > Duration::from_secs(seconds - 1),
                "{text}: {left:?}"
            );
        }
        assert!(limit("7n").is_some());
        for bad in ["", "S", "1", "1x", "-1S", "123456789S", "1é"] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_bytes(bad.as_bytes()).expect("a header"));
            assert_eq!(of(&headers), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_late_answer_is_a_deadline_exceeded() {
        let deadline = Instant::now().checked_add(Duration::from_millis(10));
        let answer = within::<std::convert::Infallible>(deadline, "PullImage", std::future::pending()).await;
        let Ok(response) = answer;
        assert_eq!(response.headers().get("grpc-status").map(|v| v.as_bytes()), Some(&b"4"[..]));
    }
}
