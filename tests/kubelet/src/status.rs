//! Pods as the kubelet reports them.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// A pod's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, without the node's.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub phase: String,
    /// The condition `Ready`.
    pub ready: bool,
    /// Its address; empty without a network.
    pub ip: String,
    /// Init containers, sidecars and main containers by name.
    pub containers: BTreeMap<String, Container>,
}

/// A container's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The runtime's ID, without the runtime's name; empty before the first one.
    pub id: String,
    /// What the runtime said the image is.
    pub image_id: String,
    /// How often it was started again.
    pub restarts: u64,
    /// Ready to serve.
    pub ready: bool,
    /// Since when it runs.
    pub running: Option<Timestamp>,
    /// Why it does not run yet: reason and message.
    pub waiting: Option<(String, String)>,
    /// How it ended.
    pub ended: Option<Exit>,
    /// How it ended before it was started again.
    pub last: Option<Exit>,
}

/// The end of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code.
    pub code: i64,
    /// One word, such as `Completed`.
    pub reason: String,
    /// The termination message, or why it could not start.
    pub message: String,
    /// When it was started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

impl Pod {
    /// A container's status, by its name.
    pub fn container(&self, name: &str) -> Result<&Container> {
        self.containers.get(name).with_context(|| format!("no container {name} in {self:#?}"))
    }

    /// Reads a pod object; of a static pod's name the node's is left out.
    pub fn read(item: &Value, node: &str) -> Self {
        let (metadata, status) = (&item["metadata"], &item["status"]);
        let name = text(&metadata["name"]);
        let lists = ["initContainerStatuses", "containerStatuses"];
        let statuses = lists.iter().filter_map(|list| status[list].as_array()).flatten();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        Self {
            name: name.strip_suffix(&format!("-{node}")).unwrap_or(&name).to_owned(),
            uid: text(&metadata["uid"]),
            phase: text(&status["phase"]),
            ready: conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True"),
            ip: text(&status["podIP"]),
            containers: statuses.map(|status| (text(&status["name"]), container(status))).collect(),
        }
    }
}

fn container(status: &Value) -> Container {
    let (state, id) = (&status["state"], text(&status["containerID"]));
    let waiting = state.get("waiting");
    Container {
        id: id.split_once("://").map_or(String::new(), |(_, id)| id.to_owned()),
        image_id: text(&status["imageID"]),
        restarts: status["restartCount"].as_u64().unwrap_or_default(),
        ready: status["ready"].as_bool().unwrap_or_default(),
        running: time(&state["running"]["startedAt"]),
        waiting: waiting.map(|waiting| (text(&waiting["reason"]), text(&waiting["message"]))),
        ended: exit(&state["terminated"]),
        last: exit(&status["lastState"]["terminated"]),
    }
}

fn exit(terminated: &Value) -> Option<Exit> {
    Some(Exit {
        code: terminated.get("exitCode")?.as_i64()?,
        reason: text(&terminated["reason"]),
        message: text(&terminated["message"]),
        started: time(&terminated["startedAt"]),
        finished: time(&terminated["finishedAt"]),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}
