//! Plugins of the official stub next to a runtime that only remembers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cricket_nri::api::{Container, ContainerEviction, ContainerUpdate, PodSandbox};
use cricket_nri::{Config, Future, Plugins, Runtime, Snapshot};
use serde_json::{Value, json};

use crate::tools;

/// A runtime that remembers what it is asked for.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) snapshot: Mutex<Snapshot>,
    pub(crate) updates: Mutex<Vec<ContainerUpdate>>,
}

impl Runtime for Fake {
    fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().expect("lock").clone()
    }
    fn update(&self, update: ContainerUpdate) -> Future<Result<(), String>> {
        let failed = update.container_id == "missing";
        self.updates.lock().expect("lock").push(update);
        Box::pin(async move { if failed { Err("no such container".into()) } else { Ok(()) } })
    }
    fn evict(&self, _: ContainerEviction) -> Future<Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

pub(crate) struct Node {
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) runtime: Arc<Fake>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) tools: PathBuf,
    pub(crate) processes: Vec<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Node {
    pub(crate) async fn start(prepare: impl FnOnce(&Path, &Path, &mut Config)) -> Option<Self> {
        let tools = tools::nri()?;
        let dir = tempfile::tempdir().expect("directory");
        let mut config = Config {
            socket_path: dir.path().join("run/nri.sock"),
            plugin_path: dir.path().join("plugins"),
            plugin_config_path: dir.path().join("conf.d"),
            plugin_request_timeout: Duration::from_millis(700),
            plugin_registration_timeout: Duration::from_secs(10),
            ..Config::default()
        };
        prepare(dir.path(), &tools, &mut config);
        let plugins = Plugins::new(config, "cricket", "v0");
        let runtime = Arc::new(Fake::default());
        runtime.snapshot.lock().expect("lock").pods.push(pod());
        plugins.start(runtime.clone()).await.expect("start");
        Some(Self { plugins, runtime, dir, tools, processes: Vec::new() })
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// Starts a plugin, and returns when it is synchronised.
    pub(crate) async fn plugin(&mut self, index: &str, name: &str, mut behaviour: Value) {
        behaviour["log"] = json!(self.log(name));
        let file = self.dir.path().join(format!("{name}.json"));
        std::fs::write(&file, behaviour.to_string()).expect("write");
        let mut command = Command::new(self.tools.join("nri-plugin"));
        command.args(["-name", name, "-index", index, "-behaviour"]).arg(&file);
        command.arg("-socket").arg(self.dir.path().join("run/nri.sock")).stderr(Stdio::null());
        self.processes.push(command.spawn().expect("start the plugin"));
        self.wait(name, "Synchronize").await;
    }

    /// Waits for an event in a plugin's log.
    pub(crate) async fn wait(&self, name: &str, event: &str) -> Value {
        let begin = Instant::now();
        loop {
            if let Some(line) = self.lines(name).into_iter().find(|line| line["event"] == event) {
                return line;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{name} never had {event}: {:?}", self.events(name));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(crate) fn events(&self, name: &str) -> Vec<String> {
        self.lines(name).iter().filter_map(|line| line["event"].as_str().map(str::to_owned)).collect()
    }

    pub(crate) async fn updated(&self, count: usize) -> Vec<ContainerUpdate> {
        let begin = Instant::now();
        loop {
            let updates = self.runtime.updates.lock().expect("lock").clone();
            if updates.len() >= count {
                return updates;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{updates:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn pod() -> PodSandbox {
    PodSandbox { id: "p".into(), name: "pod".into(), ..PodSandbox::default() }
}

pub(crate) fn container(id: &str) -> Container {
    Container { id: id.into(), pod_sandbox_id: "p".into(), name: id.into(), ..Container::default() }
}

pub(crate) fn limit(bytes: i64) -> Value {
    json!({ "resources": { "memory": { "limit": { "value": bytes } } } })
}
