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

/// Calls the runtime.
async fn call(peer: &mut Peer, stream: u32, method: &str, payload: Vec<u8>) {
    let service = "nri.pkg.api.v1alpha1.Runtime".into();
    let request = Request { service, method: method.into(), payload, timeout_nano: 0 };
    peer.write(Lane::Runtime, stream, REQUEST, request.encode_to_vec()).await;
}

async fn register(peer: &mut Peer, stream: u32) {
    let request =
        api::RegisterPluginRequest { plugin_name: "p".into(), plugin_idx: "10".into(), nri_version: String::new() };
    call(peer, stream, "RegisterPlugin", request.encode_to_vec()).await;
}

/// The answer to a call of the runtime.
async fn answer_to(peer: &mut Peer, stream: u32) -> Option<Response> {
    loop {
        let message = peer.read().await?;
        if message.lane == Lane::Runtime && message.stream == stream {
            return Some(Response::decode(message.payload.as_slice()).unwrap());
        }
    }
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

#[tokio::test]
async fn who_is_not_configured_changes_nothing() {
    let mut node = node().await;
    let mut peer = node.connect().await;
    let update = ContainerUpdate { container_id: "x".into(), ..ContainerUpdate::default() };
    let evict = vec![ContainerEviction { container_id: "y".into(), reason: "r".into() }];
    let payload = api::UpdateContainersRequest { update: vec![update], evict }.encode_to_vec();
    let refused = |answer: Option<Response>| answer.unwrap().status.unwrap().message;
    call(&mut peer, 1, "UpdateContainers", payload.clone()).await;
    assert_eq!(refused(answer_to(&mut peer, 1).await), "not configured yet");
    // Registered, and asked how it wants to be configured.
    register(&mut peer, 3).await;
    let configure = loop {
        let message = peer.read().await.unwrap();
        if message.lane == Lane::Plugin {
            break message.stream;
        }
    };
    call(&mut peer, 5, "UpdateContainers", payload.clone()).await;
    assert_eq!(refused(answer_to(&mut peer, 5).await), "not configured yet");
    assert!(node.asked.try_recv().is_err());
    // Right behind the answer it may.
    peer.answer(configure, Ok(Vec::new())).await;
    call(&mut peer, 7, "UpdateContainers", payload).await;
    assert_eq!(answer_to(&mut peer, 7).await.unwrap().status, None);
    assert_eq!(node.asked.recv().await.unwrap(), "evict y r");
    assert_eq!(node.asked.recv().await.unwrap(), "update x");
}

#[tokio::test]
async fn connections_are_bounded_whatever_the_list_waits_for() {
    let node = node().await;
    let configure = async |peer: &mut Peer| {
        register(peer, 1).await;
        while let Some(message) = peer.read().await {
            if message.lane == Lane::Plugin {
                peer.answer(message.stream, Ok(Vec::new())).await;
                break;
            }
        }
    };
    // A plugin is being asked: nobody gets on the list.
    let list = node.plugins.list().await;
    let mut peers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut peer = node.connect().await;
        configure(&mut peer).await;
        peers.push(peer);
    }
    let refused = async || {
        let mut more = node.connect().await;
        tokio::time::timeout(Duration::from_secs(3), more.read()).await.expect("it is told at once")
    };
    for _ in 0..3 {
        assert_eq!(refused().await, None);
    }
    drop(list);
    // All of them are synchronised, and on the list.
    for peer in &mut peers {
        let synchronize = peer.read().await.unwrap();
        peer.answer(synchronize.stream, Ok(Vec::new())).await;
    }
    while node.plugins.list().await.len() < CONNECTIONS {
        tokio::task::yield_now().await;
    }
    assert_eq!(refused().await, None);
    // One that goes makes room, although nobody looks at the list.
    let list = node.plugins.list().await;
    peers.pop();
    let mut registered = false;
    for _ in 0..200 {
        let mut peer = node.connect().await;
        register(&mut peer, 1).await;
        registered = peer.read().await.is_some();
        if registered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(registered, "its place is not free");
    drop(list);
}
