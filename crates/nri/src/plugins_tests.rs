//! What the official stub does not do: evictions, calls of the time before dedicated events, odd conduct.

use std::time::Duration;

use prost::Message as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::*;
use crate::api::{ContainerEviction, ContainerUpdate, LinuxResources};
use crate::error::Status;
use crate::frame::Lane;
use crate::peer::Peer;
use crate::runtime::Future;
use crate::ttrpc::{REQUEST, Request, Response, UNIMPLEMENTED};

struct Fake(mpsc::UnboundedSender<String>);

impl Runtime for Fake {
    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
    fn update(&self, update: ContainerUpdate) -> Future<Result<(), String>> {
        let _ = self.0.send(format!("update {}", update.container_id));
        Box::pin(async { Ok(()) })
    }
    fn evict(&self, eviction: ContainerEviction) -> Future<Result<(), String>> {
        let _ = self.0.send(format!("evict {} {}", eviction.container_id, eviction.reason));
        Box::pin(async { Ok(()) })
    }
}

type Answer = Result<Vec<u8>, Status>;

struct Node {
    plugins: Arc<Plugins>,
    asked: mpsc::UnboundedReceiver<String>,
    dir: tempfile::TempDir,
}

async fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        socket_path: dir.path().join("nri.sock"),
        plugin_path: dir.path().join("none"),
        plugin_request_timeout: Duration::from_secs(5),
        plugin_registration_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let (sender, asked) = mpsc::unbounded_channel();
    let plugins = Plugins::new(config, "cricket", "v0");
    plugins.start(Arc::new(Fake(sender))).await.unwrap();
    Node { plugins, asked, dir }
}

async fn register(peer: &mut Peer, stream: u32) {
    let request =
        api::RegisterPluginRequest { plugin_name: "p".into(), plugin_idx: "10".into(), nri_version: String::new() };
    let request = Request {
        service: "nri.pkg.api.v1alpha1.Runtime".into(),
        method: "RegisterPlugin".into(),
        payload: request.encode_to_vec(),
        timeout_nano: 0,
    };
    peer.write(Lane::Runtime, stream, REQUEST, request.encode_to_vec()).await;
}

impl Node {
    async fn connect(&self) -> Peer {
        Peer::new(UnixStream::connect(self.dir.path().join("nri.sock")).await.unwrap())
    }

    /// A plugin that answers as `answer` says and tells the methods it was called by.
    async fn plugin(&self, answer: fn(&str) -> Answer) -> mpsc::UnboundedReceiver<String> {
        let (sender, mut methods) = mpsc::unbounded_channel();
        let mut peer = self.connect().await;
        register(&mut peer, 1).await;
        tokio::spawn(async move {
            while let Some(message) = peer.read().await {
                if message.lane == Lane::Plugin {
                    let request = Request::decode(message.payload.as_slice()).unwrap();
                    peer.answer(message.stream, answer(&request.method)).await;
                    let _ = sender.send(request.method);
                }
            }
        });
        assert_eq!(methods.recv().await.as_deref(), Some("Configure"));
        assert_eq!(methods.recv().await.as_deref(), Some("Synchronize"));
        methods
    }
}

fn pod() -> PodSandbox {
    PodSandbox { id: "p".into(), ..PodSandbox::default() }
}

fn container() -> Container {
    Container { id: "c".into(), ..Container::default() }
}

#[tokio::test]
async fn evictions_are_carried_out_before_updates() {
    let mut node = node().await;
    let _methods = node
        .plugin(|method| {
            let evict = vec![ContainerEviction { container_id: "x".into(), reason: format!("for {method}") }];
            let update = vec![ContainerUpdate { container_id: "y".into(), ..ContainerUpdate::default() }];
            Ok(match method {
                "CreateContainer" => api::CreateContainerResponse { adjust: None, update, evict }.encode_to_vec(),
                "UpdateContainer" => api::UpdateContainerResponse { update, evict }.encode_to_vec(),
                _ => Vec::new(),
            })
        })
        .await;
    node.plugins.create_container(&pod(), &container()).await.unwrap();
    assert_eq!(node.asked.recv().await.unwrap(), "evict x for CreateContainer");
    assert_eq!(node.asked.recv().await.unwrap(), "update y");
    node.plugins.update_container(&pod(), &container(), LinuxResources::default()).await.unwrap();
    assert_eq!(node.asked.recv().await.unwrap(), "evict x for UpdateContainer");
    assert_eq!(node.asked.recv().await.unwrap(), "update y");
}

#[tokio::test]
async fn a_plugin_without_calls_for_events_is_told_of_state_changes() {
    let node = node().await;
    let mut methods = node
        .plugin(|method| match method {
            "RunPodSandbox" | "PostCreateContainer" | "UpdatePodSandbox" => {
                Err(Status { code: UNIMPLEMENTED, message: String::new() })
            }
            _ => Ok(Vec::new()),
        })
        .await;
    node.plugins.run_pod_sandbox(&pod()).await.unwrap();
    node.plugins.post_create_container(&pod(), &container()).await.unwrap();
    node.plugins.update_pod_sandbox(&pod(), LinuxResources::default(), LinuxResources::default()).await.unwrap();
    let mut seen = Vec::new();
    while let Ok(method) = methods.try_recv() {
        seen.push(method);
    }
    assert_eq!(seen, ["RunPodSandbox", "StateChange", "StateChange"]);
}

#[tokio::test]
async fn who_does_not_register_is_dropped() {
    let node = node().await;
    let mut silent = node.connect().await;
    assert_eq!(silent.read().await, None);
}

#[tokio::test]
async fn registering_twice_is_an_error() {
    let node = node().await;
    let mut peer = node.connect().await;
    register(&mut peer, 1).await;
    register(&mut peer, 3).await;
    let mut statuses = Vec::new();
    while statuses.len() < 2 {
        let message = peer.read().await.unwrap();
        if message.lane == Lane::Runtime {
            statuses.push(Response::decode(message.payload.as_slice()).unwrap().status.map(|status| status.message));
        }
    }
    statuses.sort();
    assert_eq!(statuses, [None, Some("already registered".to_owned())]);
}

#[tokio::test]
async fn unknown_events_are_refused() {
    let node = node().await;
    let mut peer = node.connect().await;
    register(&mut peer, 1).await;
    while let Some(message) = peer.read().await {
        if message.lane == Lane::Plugin {
            let answer = api::ConfigureResponse { events: 1 << 14, failure_policy: None };
            peer.answer(message.stream, Ok(answer.encode_to_vec())).await;
        }
    }
    assert!(node.plugins.list().await.is_empty());
}
