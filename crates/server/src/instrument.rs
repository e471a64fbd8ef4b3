//! One log line for each RPC that changes something or fails: what it is about, and its duration.

use std::future::Future;
use std::time::Instant;

use cricket_cri_api::v1;
use cricket_pod::Error;
use tonic::{Response, Status};

use crate::Service;
use crate::code::status;

/// RPCs that kubelets call all the time: logged only when they fail.
const QUIET: [&str; 21] = [
    "Version",
    "Status",
    "PodSandboxStatus",
    "ListPodSandbox",
    "ListContainers",
    "ContainerStatus",
    "ContainerStats",
    "ListContainerStats",
    "PodSandboxStats",
    "ListPodSandboxStats",
    "ListImages",
    "ImageStatus",
    "ImageFsInfo",
    "ListMetricDescriptors",
    "ListPodSandboxMetrics",
    "StreamPodSandboxes",
    "StreamContainers",
    "StreamContainerStats",
    "StreamPodSandboxStats",
    "StreamPodSandboxMetrics",
    "StreamImages",
];

/// Characters of a request's text that a log line takes: real IDs and names are shorter.
const MAX_TEXT: usize = 256;

/// What an RPC is about: fields of its log line.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    pod: Option<String>,
    container: Option<String>,
    image: Option<String>,
    /// `namespace/name` of a pod, or a container's name, before there is an ID.
    name: Option<String>,
}

impl Subject {
    /// An RPC about everything.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// An RPC about the pod with this ID.
    pub(crate) fn pod(id: &str) -> Self {
        Self { pod: text(id), ..Self::default() }
    }

    /// An RPC about the container with this ID, and thereby about its pod, if it is known.
    pub(crate) fn container(service: &Service, id: &str) -> Self {
        match service.0.pods.container(id) {
            Ok((pod, container)) => Self {
                pod: text(pod.record.sandbox.id.as_str()),
                container: text(container.id.as_str()),
                ..Self::default()
            },
            Err(_) => Self::container_id(id),
        }
    }

    /// The same for what kubelets call all the time: nothing is looked up.
    pub(crate) fn container_id(id: &str) -> Self {
        Self { container: text(id), ..Self::default() }
    }

    /// A pod to be made.
    pub(crate) fn new_pod(config: Option<&v1::PodSandboxConfig>) -> Self {
        let name = config.and_then(|c| c.metadata.as_ref()).map(|m| format!("{}/{}", m.namespace, m.name));
        Self { name: name.and_then(|name| text(&name)), ..Self::default() }
    }

    /// A container to be made.
    pub(crate) fn new_container(request: &v1::CreateContainerRequest) -> Self {
        let config = request.config.as_ref();
        let image = config.and_then(|c| c.image.as_ref());
        Self {
            pod: text(&request.pod_sandbox_id),
            container: None,
            image: image.and_then(|i| text(&i.image)),
            name: config.and_then(|c| c.metadata.as_ref()).and_then(|m| text(&m.name)),
        }
    }

    /// An RPC about an image.
    pub(crate) fn image(image: Option<&v1::ImageSpec>) -> Self {
        Self { image: image.and_then(|i| text(&i.image)), ..Self::default() }
    }

    /// The pod was made.
    pub(crate) fn set_pod(&mut self, id: &str) {
        self.pod = text(id);
    }

    /// The container was made.
    pub(crate) fn set_container(&mut self, id: &str) {
        self.container = text(id);
    }
}

/// What of a client's text is logged; nothing for an empty one.
fn text(from: &str) -> Option<String> {
    (!from.is_empty()).then(|| from.chars().take(MAX_TEXT).collect())
}

/// Runs a handler, logs it, and turns its error into a status.
pub(crate) async fn answer<T>(
    rpc: &'static str,
    subject: Subject,
    handler: impl Future<Output = Result<T, Error>>,
) -> Result<Response<T>, Status> {
    answer_made(rpc, subject, |_, _| (), handler).await
}

/// As [`answer`], where the answer says more about what was made.
pub(crate) async fn answer_made<T>(
    rpc: &'static str,
    mut subject: Subject,
    made: impl FnOnce(&mut Subject, &T),
    handler: impl Future<Output = Result<T, Error>>,
) -> Result<Response<T>, Status> {
    let begin = Instant::now();
    let result = handler.await;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    if let Ok(response) = &result {
        made(&mut subject, response);
    }
    let Subject { pod, container, image, name } = subject;
    match result {
        Ok(response) => {
            if QUIET.contains(&rpc) || rpc == "ExecSync" {
                tracing::debug!(rpc, pod, container, image, name, ms, "answered");
            } else {
                tracing::info!(rpc, pod, container, image, name, ms, "answered");
            }
            Ok(Response::new(response))
        }
        Err(e) => {
            let status = status(&e);
            tracing::warn!(rpc, pod, container, image, name, ms, code = ?status.code(), error = %e, "failed");
            Err(status)
        }
    }
}

#[cfg(test)]
mod tests {
    use cricket_cri_api::v1;

    use super::{MAX_TEXT, Subject};

    #[test]
    fn a_new_pod_is_named_before_it_has_an_id() {
        let metadata = v1::PodSandboxMetadata {
            name: "web".into(),
            namespace: "shop".into(),
            ..v1::PodSandboxMetadata::default()
        };
        let config = v1::PodSandboxConfig { metadata: Some(metadata), ..v1::PodSandboxConfig::default() };
        let mut subject = Subject::new_pod(Some(&config));
        assert_eq!((subject.name.as_deref(), subject.pod.as_deref()), (Some("shop/web"), None));
        subject.set_pod("p1");
        assert_eq!(subject.pod.as_deref(), Some("p1"));
    }

    #[test]
    fn what_a_client_sends_is_bounded() {
        let long = "é".repeat(MAX_TEXT * 2);
        assert_eq!(Subject::pod(&long).pod.map(|p| p.chars().count()), Some(MAX_TEXT));
        assert_eq!(Subject::pod("").pod, None);
    }
}
