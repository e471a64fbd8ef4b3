//! What the daemon counts of itself, and the text that Prometheus reads (OpenMetrics 1.0).
//!
//! Counting is a few atomic operations, whether or not anybody asks: there is no task, no timer and no state but the
//! counts. Pods and containers are not counted but looked at when somebody asks ([`States`]).
//!
//! Invariants: every label has few values, none of which a client or an image chooses; what is counted is never taken
//! back.

#![forbid(unsafe_code)]

mod families;
mod methods;

use std::sync::LazyLock;
use std::time::Duration;

use cricket_model::ErrorKind;

use families::Families;

/// The content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The process's counts.
static FAMILIES: LazyLock<Families> = LazyLock::new(Families::default);

/// The name of a method that the daemon does not have: whoever asks may make any up.
const OTHER: &str = "other";

/// gRPC's codes by their number, as other servers' metrics name them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// A gRPC call was answered with the code of this number.
pub fn rpc(service: &'static str, method: &str, code: i32, took: Duration) {
    let code = usize::try_from(code).ok().and_then(|code| CODES.get(code)).unwrap_or(&"Unknown");
    FAMILIES.rpc(service, methods::known(method).unwrap_or(OTHER), code, took);
}

/// A pull has ended.
pub fn pull(outcome: Result<(), ErrorKind>) {
    FAMILIES.pull(match outcome {
        Ok(()) => "ok",
        Err(kind) => cause(kind),
    });
}

/// So many bytes of layers have come from registries.
pub fn pulled(bytes: u64) {
    FAMILIES.pulled(bytes);
}

/// A CNI plugin was run for `verb`.
pub fn cni(verb: &'static str, ok: bool, took: Duration) {
    FAMILIES.cni(verb, if ok { "ok" } else { "failed" }, took);
}

/// A pod's monitor has ended unasked.
pub fn monitor_lost() {
    FAMILIES.monitor_lost();
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct States {
    /// READY pods.
    pub pods_ready: usize,
    /// NOTREADY pods.
    pub pods_not_ready: usize,
    /// CREATED containers.
    pub containers_created: usize,
    /// RUNNING containers.
    pub containers_running: usize,
    /// EXITED containers.
    pub containers_exited: usize,
}

/// Everything as text.
pub fn encode(version: &str, states: &States) -> String {
    FAMILIES.encode(version, states)
}

fn cause(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "invalid",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::PermissionDenied => "permission_denied",
        ErrorKind::ResourceExhausted => "resource_exhausted",
        ErrorKind::DeadlineExceeded => "deadline_exceeded",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Unavailable | ErrorKind::RegistryUnavailable => "registry_unavailable",
        ErrorKind::DataLoss => "data_loss",
        ErrorKind::SignatureValidationFailed => "signature_validation_failed",
        ErrorKind::AlreadyExists | ErrorKind::FailedPrecondition | ErrorKind::Unimplemented | ErrorKind::Internal => {
            "internal"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_text() {
        rpc("runtime.v1.RuntimeService", "RunPodSandbox", 0, Duration::from_millis(40));
        rpc("runtime.v1.RuntimeService", "RunPodSandbox", 4, Duration::from_secs(3));
        rpc("runtime.v1.RuntimeService", "made-up", 12, Duration::ZERO);
        rpc("runtime.v1.RuntimeService", "ListContainers", 99, Duration::ZERO);
        pull(Ok(()));
        pull(Err(ErrorKind::SignatureValidationFailed));
        pulled(1000);
        pulled(1);
        cni("ADD", true, Duration::from_millis(20));
        cni("DEL", false, Duration::from_millis(20));
        monitor_lost();
        let states = States { pods_ready: 2, containers_exited: 3, ..States::default() };
        let text = encode("1.2.3", &states);
        let service = "grpc_service=\"runtime.v1.RuntimeService\"";
        for line in [
            &format!(
                "grpc_server_handled_total{{grpc_type=\"unary\",{service},grpc_method=\"RunPodSandbox\",grpc_code=\"OK\"}} 1\n"
            ),
            &format!(
                "grpc_server_handled_total{{grpc_type=\"unary\",{service},grpc_method=\"RunPodSandbox\",grpc_code=\"DeadlineExceeded\"}} 1\n"
            ),
            &format!(
                "grpc_server_handled_total{{grpc_type=\"unary\",{service},grpc_method=\"other\",grpc_code=\"Unimplemented\"}} 1\n"
            ),
            &format!(
                "grpc_server_handled_total{{grpc_type=\"unary\",{service},grpc_method=\"ListContainers\",grpc_code=\"Unknown\"}} 1\n"
            ),
            &format!("grpc_server_handling_seconds_bucket{{le=\"0.05\",{service},grpc_method=\"RunPodSandbox\"}} 1\n"),
            &format!("grpc_server_handling_seconds_count{{{service},grpc_method=\"RunPodSandbox\"}} 2\n"),
            "cricket_image_pulls_total{outcome=\"ok\"} 1\n",
            "cricket_image_pulls_total{outcome=\"signature_validation_failed\"} 1\n",
            "cricket_image_pulled_bytes_total 1001\n",
            "cricket_cni_plugin_seconds_count{verb=\"ADD\",outcome=\"ok\"} 1\n",
            "cricket_cni_plugin_seconds_count{verb=\"DEL\",outcome=\"failed\"} 1\n",
            "cricket_monitors_lost_total 1\n",
            "cricket_pods{state=\"ready\"} 2\n",
            "cricket_pods{state=\"not_ready\"} 0\n",
            "cricket_containers{state=\"exited\"} 3\n",
            "cricket_build_info{version=\"1.2.3\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("made-up") && text.ends_with("# EOF\n"), "{text}");
    }
}
