//! The kubelet: its process, its static pods and what it says of them.

use crate::config::{KubeletOptions, Layout};
use crate::{Event, Pod, events};
use anyhow::{Context, Result, bail};
use cricket_testkit::daemon::Daemon;
use cricket_testkit::{host, leaks};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(60);

/// A kubelet for the runtime of one [`Daemon`], in that one's directories.
pub struct Kubelet {
    child: Option<Child>,
    layout: Layout,
    options: KubeletOptions,
    containerd: PathBuf,
    node: String,
    address: Ipv4Addr,
    url: String,
    client: reqwest::Client,
}

impl Kubelet {
    /// Starts a kubelet and waits until it answers.
    pub async fn start(daemon: &Daemon, options: &KubeletOptions) -> Result<Self> {
        let layout = Layout::new(daemon.home(), daemon.mark())?;
        let address = daemon.network().node_address().context("an address for the node")?;
        let [port, read_only] = free_ports(address)?;
        layout.configure(address, [port, read_only], &daemon.socket(), options)?;
        let mut kubelet = Self {
            child: None,
            layout,
            options: options.clone(),
            containerd: daemon.containerd_socket(),
            node: format!("node-{}", daemon.mark()),
            url: format!("http://{address}:{read_only}"),
            address,
            client: reqwest::Client::builder().no_proxy().timeout(host::patient(Duration::from_secs(10))).build()?,
        };
        kubelet.launch().await?;
        Ok(kubelet)
    }

    /// Starts it again after [`Self::kill`].
    pub async fn launch(&mut self) -> Result<()> {
        if let Some(child) = &self.child {
            bail!("kubelet {} runs already", child.id());
        }
        let log = OpenOptions::new().create(true).append(true).open(self.layout.log())?;
        let mut command = self.layout.command(&self.node, self.address, &self.containerd, &self.options)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(host::spawn(command)?);
        let began = Instant::now();
        while let Err(error) = self.pods().await {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the kubelet ended: {status}\n{}", self.log_tail());
            }
            if began.elapsed() > host::patient(START_LIMIT) {
                return Err(error.context(self.log_tail()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the kubelet does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Makes a static pod in the namespace `default`.
    pub fn add(&self, name: &str, spec: &Value) -> Result<()> {
        let metadata = json!({ "name": name, "namespace": "default", "labels": { "app": name } });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        let (new, path) = (self.layout.scratch(), self.manifest(name));
        fs::write(&new, serde_json::to_vec_pretty(&pod)?)?;
        fs::rename(&new, &path).with_context(|| path.display().to_string())
    }

    /// Deletes a static pod; the kubelet then stops it.
    pub fn delete(&self, name: &str) -> Result<()> {
        let path = self.manifest(name);
        fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    /// Deletes every static pod.
    pub fn delete_all(&self) -> Result<()> {
        let dir = self.layout.manifests();
        for name in leaks::names(&dir) {
            fs::remove_file(dir.join(name))?;
        }
        Ok(())
    }

    /// The directory of static pods' manifests.
    pub fn manifests(&self) -> PathBuf {
        self.layout.manifests()
    }

    /// Where pods' log directories are.
    pub fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// The name of the node, which ends the names of its static pods.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The address of the node.
    pub fn ip(&self) -> String {
        self.address.to_string()
    }

    /// The read-only endpoint, such as `http://10.204.1.1:33333`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The pods that there are to be.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let list = self.get("/pods").await?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items.map(|item| Pod::read(item, &self.node)).collect())
    }

    /// What node and pods use, as `/stats/summary` has it.
    pub async fn summary(&self) -> Result<Value> {
        self.get("/stats/summary").await
    }

    /// What cAdvisor has measured, as Prometheus reads it.
    pub async fn cadvisor(&self) -> Result<String> {
        let answer = self.client.get(format!("{}/metrics/cadvisor", self.url)).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// One pod, once the question has an answer; an error shows the pod as it was last.
    pub async fn wait<T>(
        &self,
        pod: &str,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut(&Pod) -> Option<T>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            let found = self.pods().await?.into_iter().find(|found| found.name == pod);
            if let Some(answer) = found.as_ref().and_then(&mut ask) {
                return Ok(answer);
            }
            if began.elapsed() > limit {
                bail!("waited {limit:?} for {what} of pod {pod}: {found:#?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The pod, once its condition `Ready` is true.
    pub async fn wait_ready(&self, pod: &str, limit: Duration) -> Result<Pod> {
        self.wait(pod, "readiness", limit, |pod| pod.ready.then(|| pod.clone())).await
    }

    /// The events since the first start.
    pub fn events(&self) -> Vec<Event> {
        events::read(&self.log(), &self.node)
    }

    /// The first event of the pod with the reason whose message contains the text.
    pub async fn wait_event(&self, pod: &str, reason: &str, text: &str, limit: Duration) -> Result<Event> {
        let began = Instant::now();
        loop {
            let events: Vec<_> = self.events().into_iter().filter(|event| event.pod == pod).collect();
            if let Some(event) = events.iter().find(|event| event.reason == reason && event.message.contains(text)) {
                return Ok(event.clone());
            }
            if began.elapsed() > limit {
                bail!("waited {limit:?} for an event {reason} with {text:?} of pod {pod}: {events:#?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What it has logged since the first start, a JSON object a line.
    pub fn log(&self) -> String {
        let log = fs::read(self.layout.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The log file.
    pub fn log_path(&self) -> PathBuf {
        self.layout.log()
    }

    /// A container's log: the file of its so many-eth restart.
    pub fn container_log(&self, pod: &Pod, container: &str, restart: u64) -> PathBuf {
        let dir = format!("default_{}-{}_{}", pod.name, self.node, pod.uid);
        self.layout.logs().join(dir).join(container).join(format!("{restart}.log"))
    }

    /// What pods have left with the kubelet itself: volumes and their mounts.
    pub fn leaks(&self) -> Result<Vec<String>> {
        let root = self.layout.root();
        let mounts = leaks::mounts(&[&root])?.into_iter().filter(|point| *point != root);
        let pods = leaks::names(&root.join("pods")).into_iter().map(|uid| format!("directory of pod {uid}"));
        Ok(mounts.map(|point| format!("mount {}", point.display())).chain(pods).collect())
    }

    /// Is this one of those that the test kit counts as a pod's, but that are the kubelet's own?
    pub(crate) fn owns(&self, leak: &str) -> bool {
        let root = self.layout.root();
        let process = self.child.as_ref().is_some_and(|child| leak.starts_with(&format!("process {} ", child.id())));
        let group = leak.strip_prefix("cgroup ").map(Path::new).and_then(Path::file_name);
        process
            || leak == format!("mount {}", root.display())
            || group.is_some_and(|name| ["burstable", "besteffort"].iter().any(|class| name == *class))
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let response = self.client.get(format!("{}{path}", self.url)).send().await?;
        Ok(response.error_for_status()?.json().await?)
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.layout.manifests().join(format!("{name}.json"))
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Two ports of the address for programs that are started later.
pub(crate) fn free_ports(address: Ipv4Addr) -> Result<[u16; 2]> {
    let first = host::free_port(address)?;
    loop {
        let second = host::free_port(address)?;
        if second != first {
            return Ok([first, second]);
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself; waiting then collects it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
