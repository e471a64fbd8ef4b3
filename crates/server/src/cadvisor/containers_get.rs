//! `Containers.Get`: what the container or sandbox of a cgroup is called.

use std::collections::HashMap;

use cricket_pod::{ContainerRecord, PodView};
use serde_json::json;
use tonic::Status;

use super::messages::{Any, Container, GetContainerRequest, GetContainerResponse};
use super::{Cadvisor, Found};

/// The label that tells both kinds apart (containerd, `internal/cri/labels`): only a sandbox's network is read.
const KIND: &str = "io.cri-containerd.kind";
/// What the specification is (containerd's type URL for runtime-spec 1.x).
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
/// The image of sandboxes, which have none: rules for dashboards take what has no image for a mere control group.
const SANDBOX_IMAGE: &str = "cricket-init";

pub(super) async fn handle(service: &Cadvisor, request: &GetContainerRequest) -> Result<GetContainerResponse, Status> {
    let container = match service.find_soon(&request.id).await? {
        Found::Sandbox(pod) => sandbox(&pod),
        Found::Container(pod, record) => container(&pod, &record),
    };
    Ok(GetContainerResponse { container: Some(container) })
}

fn sandbox(pod: &PodView) -> Container {
    let sandbox = &pod.record.sandbox;
    Container {
        id: sandbox.id.to_string(),
        labels: labels(sandbox.config.0.labels.iter(), "sandbox"),
        image: SANDBOX_IMAGE.to_owned(),
        spec: Some(spec(&[])),
    }
}

fn container(pod: &PodView, record: &ContainerRecord) -> Container {
    let live = pod.live.get(&record.id);
    let env = live.and_then(|live| live.spec.process().as_ref()?.env().clone()).unwrap_or_default();
    Container {
        id: record.id.to_string(),
        labels: labels(record.config.0.labels.iter(), "container"),
        image: record.image.name.clone(),
        spec: Some(spec(&env)),
    }
}

/// The kubelet's labels. Those of images are left out: they are for others to choose.
fn labels<'a>(given: impl Iterator<Item = (&'a String, &'a String)>, kind: &str) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = given.map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.insert(KIND.to_owned(), kind.to_owned());
    labels
}

/// The specification, of which cAdvisor reads the environment, where it is told to.
fn spec(env: &[String]) -> Any {
    let spec = json!({ "ociVersion": "1.2.0", "process": { "env": env, "cwd": "/" } });
    Any { type_url: SPEC.to_owned(), value: spec.to_string().into_bytes() }
}
