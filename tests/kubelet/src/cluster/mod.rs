//! A whole cluster on this machine: a control plane and one node or more.
//!
//! ```text
//! kubectl, Api ──▶ kube-apiserver ──▶ etcd
//!                    ▲     ▲   ▲
//!       scheduler ───┘     │   └─── kubelet ──CRI──▶ cricket     (each node)
//!       controller manager ┘
//! ```
//!
//! Everything listens on an address of the first node's own network, and the
//! files are in the directory of the first node's runtime: any number of
//! clusters run at once, and each is removed like the runtime is.

mod api;
mod control;
mod files;
mod kubectl;

pub use api::{Api, Change};
pub use kubectl::{Kubectl, Ran};

use crate::{Node, Options, handlers, peer};
use anyhow::{Context, Result, bail};
use control::ControlPlane;
use cricket_testkit::daemon::Program;
use cricket_testkit::host;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A node's first contact with a cluster that has just started, on a busy machine.
const JOIN_LIMIT: Duration = Duration::from_secs(90);

/// A running cluster.
pub struct Cluster {
    control: ControlPlane,
    nodes: Vec<Node>,
}

impl Cluster {
    /// A cluster for tests: with cricket, or with containerd where `CRICKET_TEST_PEER` is `1`.
    pub async fn start() -> Result<Self> {
        let program = if peer() { Program::Containerd } else { Program::Cricket };
        Self::with(Options { program, ..Options::default() }).await
    }

    /// A cluster whose first node has these options; a RuntimeClass for each of its handlers.
    pub async fn with(options: Options) -> Result<Self> {
        let handlers = options.handlers();
        let (registry, daemon) = Node::parts(&options)?;
        let address = daemon.network().node_address().context("an address for the control plane")?;
        let mut control = ControlPlane::start(daemon.home().join("cluster"), address)?;
        Node::fill(&registry, &options).await?;
        control.ready().await?;
        for name in handlers {
            control.api().create("/apis/node.k8s.io/v1/runtimeclasses", &handlers::class(name)).await?;
        }
        let mut cluster = Self { control, nodes: Vec::new() };
        let mut kubelet = options.kubelet.clone();
        kubelet.kubeconfig = Some(cluster.kubeconfig());
        cluster.add(Node::of(registry, daemon, &kubelet).await?).await?;
        Ok(cluster)
    }

    /// One more node, with a runtime, a registry and a network of its own; its index in [`Self::nodes`].
    pub async fn join(&mut self, mut options: Options) -> Result<usize> {
        options.kubelet.kubeconfig = Some(self.kubeconfig());
        self.add(Node::with(options).await?).await?;
        Ok(self.nodes.len() - 1)
    }

    async fn add(&mut self, node: Node) -> Result<()> {
        let name = node.kubelet.node().to_owned();
        // Kept first: what it has started must end in order whatever follows.
        self.nodes.push(node);
        let path = format!("/api/v1/nodes?fieldSelector=metadata.name%3D{name}");
        let ready = |change: &Change| condition(&change.object, "Ready").filter(|ready| *ready == "True").map(drop);
        let limit = host::patient(JOIN_LIMIT);
        let joined = self.api().watch(&path, &format!("node {name} to be ready"), limit, ready).await;
        self.control.alive()?;
        joined
    }

    /// A client with the administrator's rights.
    pub fn api(&self) -> &Api {
        self.control.api()
    }

    /// kubectl with the administrator's rights.
    pub fn kubectl(&self, namespace: &str) -> Result<Kubectl> {
        let program = host::tool_dir("kubernetes")?.join("kubectl");
        Ok(Kubectl { program, kubeconfig: self.kubeconfig(), namespace: namespace.to_owned() })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.control.kubeconfig()
    }

    /// The directory with the logs of the control plane's programs, such as `etcd.log`.
    pub fn logs(&self) -> &Path {
        self.control.dir()
    }

    /// The nodes, the first one first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One of the nodes, to kill and start what it consists of.
    pub fn node(&mut self, index: usize) -> Result<&mut Node> {
        self.nodes.get_mut(index).with_context(|| format!("no node {index}"))
    }

    /// Makes a namespace and waits until pods can be made there.
    pub async fn namespace(&self, name: &str) -> Result<Kubectl> {
        let object = serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.api().create("/api/v1/namespaces", &object).await?;
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts?fieldSelector=metadata.name%3Ddefault");
        self.api()
            .watch(&path, "a service account", JOIN_LIMIT, |change| (change.kind == "ADDED").then_some(()))
            .await?;
        self.kubectl(name)
    }

    /// Deletes every pod, and fails when any of them leaves something on the machine.
    pub async fn finish(mut self) -> Result<()> {
        let list = self.api().get("/api/v1/pods").await?;
        let metadata = list["items"].as_array().into_iter().flatten().map(|pod| &pod["metadata"]);
        let pods: Vec<_> =
            metadata.filter_map(|meta| Some((meta["namespace"].as_str()?, meta["name"].as_str()?))).collect();
        for namespace in pods.iter().map(|(namespace, _)| *namespace).collect::<BTreeSet<_>>() {
            self.api().delete(&format!("/api/v1/namespaces/{namespace}/pods")).await?;
        }
        for (namespace, name) in pods {
            self.api().gone(&format!("/api/v1/namespaces/{namespace}/pods"), name, JOIN_LIMIT).await?;
        }
        let own: Vec<_> = self.control.pids().collect();
        let mut left = Vec::new();
        // The first one has the files of the control plane.
        for mut node in self.nodes.drain(..).rev() {
            if let Err(error) = node.clean(&own).await {
                left.push(format!("{}: {error:#}", node.kubelet.node()));
            }
            node.kubelet.kill()?;
        }
        if !left.is_empty() {
            bail!(left.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Kubelets would start again what the end of their runtime removes.
        for node in &mut self.nodes {
            // One that was killed before is no error.
            let _ = node.kubelet.kill();
        }
    }
}

/// The status of a condition, such as `True`.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}
