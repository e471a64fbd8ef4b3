//! Answers of NRI plugins to the creation of a container: merged, then applied to its specification.

use std::path::Path;

use cricket_nri::api::{Container, CreateContainerResponse};
use cricket_nri::merge::Creating;
use cricket_nri::{Facts, apply};
use cricket_oci::oci_spec::runtime::Spec;
use cricket_oci::{HostDevice, MountFacts, PathKind, Propagation};
use prost::Message as _;

/// Plugins that answer.
const PLUGINS: [&str; 3] = ["10-a", "20-b", "30-c"];

/// A host that is the same everywhere.
struct Host;

impl MountFacts for Host {
    fn kind(&self, _: &Path) -> PathKind {
        PathKind::Directory
    }
    fn propagation(&self, _: &Path) -> Propagation {
        Propagation::Shared
    }
    fn devices(&self, _: &Path) -> Vec<HostDevice> {
        Vec::new()
    }
}

/// Each answer is two bytes of length and a message. What is merged and applied twice is the same, and a specification
/// that others can read.
pub fn run(data: &[u8]) {
    let Some(answers) = answers(data) else { return };
    let (first, second) = (merged(&answers), merged(&answers));
    assert_eq!(first, second);
    let Some(spec) = first else { return };
    let text = serde_json::to_string(&spec).expect("a specification is JSON");
    let read: Spec = serde_json::from_str(&text).expect("that can be read");
    assert_eq!(read, spec);
}

fn answers(mut data: &[u8]) -> Option<Vec<CreateContainerResponse>> {
    let mut answers = Vec::new();
    while let Some((size, rest)) = data.split_first_chunk() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*size)).min(rest.len()));
        answers.push(CreateContainerResponse::decode(message).ok()?);
        data = rest;
    }
    Some(answers)
}

fn merged(answers: &[CreateContainerResponse]) -> Option<Spec> {
    let container = Container {
        id: "c".into(),
        env: vec!["A=1".into(), "odd".into()],
        annotations: [("k".to_owned(), "v".to_owned())].into(),
        ..Container::default()
    };
    let mut creating = Creating::new(container);
    for (answer, plugin) in answers.iter().zip(PLUGINS) {
        creating.apply(answer, plugin).ok()?;
    }
    let (adjust, _, _) = creating.finish();
    let mut spec = Spec::default();
    apply(&mut spec, &adjust, &Facts { mounts: &Host, cdi: None }).ok()?;
    Some(spec)
}
