//! The namespace of a spec, and the words that specs are made of.

use crate::Running;
use anyhow::{Context, Result, bail};
use cricket_kubelet_tests::cluster::{Change, Cluster, Kubectl, Ran};
use cricket_kubelet_tests::{Node, Pod, peer};
use cricket_testkit::host;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// A namespace of the cluster.
#[derive(Clone)]
pub(crate) struct Space {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) kubectl: Kubectl,
}

impl Space {
    /// Runs a spec in a namespace of its own; what the namespace says when the spec fails is added to its error.
    pub(crate) async fn run(
        cluster: &Arc<Cluster>,
        name: &str,
        spec: Box<dyn Fn(Self) -> Running + Send>,
    ) -> Result<()> {
        let namespace = format!("{}-{}", name.replace("::", "-").replace('_', "-"), host::unique());
        let kubectl = cluster.namespace(&namespace).await?;
        let space = Self { cluster: Arc::clone(cluster), kubectl };
        let mut ran = spec(space.clone()).await;
        if let Err(error) = ran {
            ran = Err(error.context(space.report().await));
        }
        cluster.api().delete(&format!("/api/v1/namespaces/{namespace}")).await?;
        ran
    }

    /// `kubectl apply` of a manifest.
    pub(crate) async fn apply(&self, manifest: &str) -> Result<()> {
        self.kubectl.apply(&for_peer(manifest, "youki")).await.map(drop)
    }

    /// `kubectl exec` in a container; standard output of a command that succeeds.
    pub(crate) async fn sh(&self, pod: &str, container: &str, script: &str) -> Result<String> {
        self.kubectl.run(&["exec", pod, "-c", container, "--", "sh", "-c", script]).await
    }

    /// `kubectl exec`, however it ends.
    pub(crate) async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<Ran> {
        self.kubectl.output(&[&["exec", pod, "-c", container, "--"], command].concat()).await
    }

    /// The path of pods, services and so on.
    pub(crate) fn path(&self, kind: &str) -> String {
        format!("/api/v1/namespaces/{}/{kind}", self.kubectl.namespace)
    }

    /// The pod object, once the question has an answer.
    pub(crate) async fn object<T>(&self, pod: &str, what: &str, mut ask: impl FnMut(&Value) -> Option<T>) -> Result<T> {
        let path = format!("{}?fieldSelector=metadata.name%3D{pod}", self.path("pods"));
        let ask = |change: &Change| ask(&change.object);
        self.cluster.api().watch(&path, &format!("{what} of pod {pod}"), LONG, ask).await
    }

    /// What the pod's status says, once the question has an answer.
    pub(crate) async fn pod<T>(&self, pod: &str, what: &str, mut ask: impl FnMut(&Pod) -> Option<T>) -> Result<T> {
        self.object(pod, what, |object| ask(&Pod::read(object, ""))).await
    }

    /// The pod, once it is ready.
    pub(crate) async fn ready(&self, pod: &str) -> Result<Pod> {
        self.pod(pod, "readiness", |pod| pod.ready.then(|| pod.clone())).await
    }

    /// The pod, once it is in this phase.
    pub(crate) async fn phase(&self, pod: &str, phase: &str) -> Result<Pod> {
        self.pod(pod, phase, |pod| (pod.phase == phase).then(|| pod.clone())).await
    }

    /// The text of the first event of an object with a reason, whose text has a part in it.
    pub(crate) async fn event(&self, object: &str, reason: &str, part: &str) -> Result<String> {
        let path = format!("{}?fieldSelector=involvedObject.name%3D{object}", self.path("events"));
        let ask = |change: &Change| {
            let message = change.object["message"].as_str()?;
            (change.object["reason"] == reason && message.contains(part)).then(|| message.to_owned())
        };
        self.cluster.api().watch(&path, &format!("an event {reason} with {part:?} of {object}"), LONG, ask).await
    }

    /// Deletes a pod as its grace period has it, and waits for its end.
    pub(crate) async fn delete(&self, pod: &str) -> Result<()> {
        self.cluster.api().delete(&format!("{}/{pod}", self.path("pods"))).await?;
        self.gone(pod).await
    }

    /// Waits for the end of a pod that was deleted.
    pub(crate) async fn gone(&self, pod: &str) -> Result<()> {
        self.cluster.api().gone(&self.path("pods"), pod, LONG).await
    }

    /// The node that a pod is on.
    pub(crate) async fn node(&self, pod: &str) -> Result<&Node> {
        let object = self.cluster.api().get(&format!("{}/{pod}", self.path("pods"))).await?;
        let name = object["spec"]["nodeName"].as_str().context("not scheduled")?;
        let found = self.cluster.nodes().iter().find(|node| node.kubelet.node() == name);
        found.with_context(|| format!("no node {name}"))
    }

    /// The sandbox of a pod, from the runtime itself.
    pub(crate) async fn sandbox(&self, pod: &str) -> Result<cricket_cri_api::v1::PodSandbox> {
        let pods = self.node(pod).await?.cri().await?.pods().await?;
        let mine = |sandbox: &cricket_cri_api::v1::PodSandbox| {
            let metadata = sandbox.metadata.as_ref();
            metadata.is_some_and(|meta| meta.name == pod && meta.namespace == self.kubectl.namespace)
        };
        pods.into_iter().find(mine).with_context(|| format!("the runtime does not know pod {pod}"))
    }

    /// What is known of the namespace, for somebody who has to find out why a spec failed.
    async fn report(&self) -> String {
        let columns = "custom-columns=OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message";
        let pods = self.kubectl.output(&["get", "pods", "-o", "wide"]).await;
        let events = self.kubectl.output(&["get", "events", "-o", columns]).await;
        let text = |ran: Result<Ran>| ran.map_or_else(|error| format!("{error:#}"), |ran| ran.stdout + &ran.stderr);
        format!("in namespace {}:\n{}{}", self.kubectl.namespace, text(pods), text(events))
    }
}

/// containerd's handler in place of a built-in one, where the runtime is the peer.
pub(crate) fn for_peer(manifest: &str, handler: &str) -> String {
    if !peer() {
        return manifest.to_owned();
    }
    let renamed = |key: &str| (format!("{key}: {handler}\n"), format!("{key}: runc\n"));
    let ((handler, other), (class, another)) = (renamed("handler"), renamed("runtimeClassName"));
    manifest.replace(&handler, &other).replace(&class, &another)
}

/// Fails, with what was there instead, unless a text has every part.
pub(crate) fn has(text: &str, parts: &[&str]) -> Result<()> {
    let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
    if !missing.is_empty() {
        bail!("{missing:?} missing in:\n{text}");
    }
    Ok(())
}
