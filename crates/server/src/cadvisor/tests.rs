use prost::Message as _;

use super::messages::{Any, Container, GetContainerRequest, Process, Status as TaskStatus};
use super::*;

#[test]
fn only_kubernetes_namespace_is_there() {
    let ask = |namespace: Option<&'static str>| {
        let mut request = Request::new(GetContainerRequest { id: "x".into() });
        if let Some(name) = namespace {
            request.metadata_mut().insert(NAMESPACE, name.parse().expect("a value"));
        }
        in_namespace(request).map(|r| r.id)
    };
    assert_eq!(ask(Some("k8s.io")).expect("Kubernetes'"), "x");
    assert_eq!(ask(Some("moby")).expect_err("another").code(), tonic::Code::NotFound);
    assert_eq!(ask(None).expect_err("none").code(), tonic::Code::FailedPrecondition);
}

/// The numbers of containerd's published files, byte for byte.
#[test]
fn fields_have_containerds_numbers() {
    let process = Process {
        container_id: "c".into(),
        id: "c".into(),
        pid: 7,
        status: TaskStatus::Stopped.into(),
        exit_status: 137,
    };
    assert_eq!(process.encode_to_vec(), b"\x0a\x01c\x12\x01c\x18\x07\x20\x03\x48\x89\x01");
    let container = Container {
        id: "c".into(),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        image: "i".into(),
        spec: Some(Any { type_url: "t".into(), value: b"{}".to_vec() }),
    };
    let bytes = b"\x0a\x01c\x12\x06\x0a\x01k\x12\x01v\x1a\x01i\x2a\x07\x0a\x01t\x12\x02{}";
    assert_eq!(container.encode_to_vec(), bytes);
}
