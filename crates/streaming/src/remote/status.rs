//! How a remote command ended, as the error channel says it.

use bytes::Bytes;
use serde::Serialize;

use crate::backend::Failure;

/// From this protocol version on the error channel carries JSON.
const JSON_SINCE: u8 = 4;

/// A `metav1.Status` of Kubernetes, what clients look at.
#[derive(Serialize)]
struct Status<'a> {
    metadata: Empty,
    status: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "is_zero")]
    code: u16,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(code: &u16) -> bool {
    *code == 0
}

/// The bytes for the error channel of this protocol version; none where silence means success.
pub(crate) fn bytes(version: u8, outcome: &Result<i32, Failure>) -> Bytes {
    let message = match outcome {
        Ok(0) => String::new(),
        Ok(code) => format!("command terminated with exit code {code}"),
        Err(failure) => format!("Internal error occurred: {failure}"),
    };
    if version < JSON_SINCE {
        return message.into();
    }
    let (reason, details, code) = match outcome {
        Ok(0) => ("", None, 0),
        Ok(code) => {
            let cause = Cause { reason: "ExitCode", message: code.to_string() };
            ("NonZeroExitCode", Some(Details { causes: [cause] }), 0)
        }
        Err(_) => ("InternalError", None, 500),
    };
    let status = if matches!(outcome, Ok(0)) { "Success" } else { "Failure" };
    let status = Status { metadata: Empty {}, status, message: &message, reason, details, code };
    serde_json::to_vec(&status).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: u8, outcome: Result<i32, Failure>) -> String {
        String::from_utf8(bytes(version, &outcome).to_vec()).expect("text")
    }

    #[test]
    fn version_4_says_it_in_json() {
        assert_eq!(text(4, Ok(0)), r#"{"metadata":{},"status":"Success"}"#);
        assert_eq!(
            text(5, Ok(42)),
            r#"{"metadata":{},"status":"Failure","message":"command terminated with exit code 42","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#
        );
        assert_eq!(
            text(4, Err(Failure::new("no such file: \"x\""))),
            r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: no such file: \"x\"","reason":"InternalError","code":500}"#
        );
    }

    #[test]
    fn older_ones_say_what_went_wrong() {
        assert_eq!(text(3, Ok(0)), "");
        assert_eq!(text(1, Ok(7)), "command terminated with exit code 7");
        assert_eq!(text(2, Err(Failure::new("gone"))), "Internal error occurred: gone");
    }
}
