//! What a kubelet's cAdvisor finds where it looks for containerd.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cricket_integration::Node;
use cricket_testkit::cri;
use cricket_testkit::daemon::Options;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::support::{SOON, Scene, idle, until};

/// containerd's messages, with the fields that cAdvisor reads.
mod messages {
    use std::collections::HashMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Id {
        #[prost(string, tag = "1")]
        pub(super) id: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Version {
        #[prost(string, tag = "1")]
        pub(super) version: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ContainerAnswer {
        #[prost(message, required, tag = "1")]
        pub(super) container: Container,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Container {
        #[prost(string, tag = "1")]
        pub(super) id: String,
        #[prost(map = "string, string", tag = "2")]
        pub(super) labels: HashMap<String, String>,
        #[prost(string, tag = "3")]
        pub(super) image: String,
        #[prost(message, required, tag = "5")]
        pub(super) spec: Any,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Any {
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TaskAnswer {
        #[prost(message, required, tag = "1")]
        pub(super) process: Process,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Process {
        #[prost(uint32, tag = "3")]
        pub(super) pid: u32,
        #[prost(int32, tag = "4")]
        pub(super) status: i32,
        #[prost(uint32, tag = "9")]
        pub(super) exit_status: u32,
    }
}

use messages::{Container, ContainerAnswer, Id, Process, TaskAnswer, Version};

/// cAdvisor's client of containerd.
struct Client(Channel);

impl Client {
    async fn connect(socket: &Path) -> Result<Self> {
        let url = format!("unix://{}", socket.display());
        Ok(Self(tonic::transport::Endpoint::try_from(url)?.connect().await?))
    }

    async fn call<Q, R>(&self, path: &'static str, namespace: &'static str, message: Q) -> Result<R, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", namespace.parse().expect("a value"));
        let codec = ProstCodec::<Q, R>::default();
        Ok(grpc.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    async fn container(&self, id: &str) -> Result<Container, Status> {
        let path = "/containerd.services.containers.v1.Containers/Get";
        let answer: ContainerAnswer = self.call(path, "k8s.io", Id { id: id.to_owned() }).await?;
        Ok(answer.container)
    }

    async fn task(&self, id: &str) -> Result<Process, Status> {
        let path = "/containerd.services.tasks.v1.Tasks/Get";
        let answer: TaskAnswer = self.call(path, "k8s.io", Id { id: id.to_owned() }).await?;
        Ok(answer.process)
    }
}

/// A daemon that answers cAdvisor, and the socket.
async fn node() -> Result<(Arc<Node>, PathBuf, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("containerd/containerd.sock");
    let own_keys = format!("cadvisor_socket = {:?}\n", socket.display().to_string());
    let node = Node::with(Options { own_keys, ..Options::default() }).await?;
    Ok((Arc::new(node), socket, dir))
}

/// The names of the interfaces that a process sees.
fn interfaces(pid: u32) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}

/// The path of a process's control group for processor time (v1), or its only one.
fn cgroup(pid: u32) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(3, ':').collect()).collect();
    let cpu = lines.iter().find(|l| l[1].split(',').any(|c| c == "cpu")).or(lines.iter().find(|l| l[0] == "0"));
    Ok(cpu.context("no control group")?[2].to_owned())
}

#[tokio::test]
async fn containers_and_the_pods_network_are_found_by_their_control_groups() -> Result<()> {
    let (node, socket, _dir) = node().await?;
    let mut pod = node.daemon.pod("cadvisor");
    pod.labels = HashMap::from([("io.kubernetes.pod.name".to_owned(), "cadvisor".to_owned())]);
    let scene = Scene::with(node, pod).await?;
    let client = Client::connect(&socket).await?;
    let version: Version = client.call("/containerd.services.version.v1.Version/Version", "k8s.io", ()).await?;
    assert!(!version.version.is_empty());

    let mut config = idle("main");
    config.labels = HashMap::from([("io.kubernetes.container.name".to_owned(), "main".to_owned())]);
    let main = scene.run(&config).await?;
    let found = client.container(&main).await?;
    assert_eq!((found.id.as_str(), found.image.as_str()), (main.as_str(), cricket_integration::BUSYBOX));
    assert_eq!(found.labels["io.kubernetes.container.name"], "main");
    assert_eq!(found.labels["io.cri-containerd.kind"], "container");
    let spec: serde_json::Value = serde_json::from_slice(&found.spec.value)?;
    let env = spec["process"]["env"].as_array().context("an environment")?;
    assert!(env.iter().any(|e| e.as_str().is_some_and(|e| e.starts_with("PATH="))), "{spec}");
    let task = client.task(&main).await?;
    assert_eq!((task.pid, task.status), (scene.pid(&main).await?, 2));
    assert!(cgroup(task.pid)?.contains(&main));

    // The sandbox: a process in the pod's network, in a control group of the pod's ID.
    let sandbox = client.container(&scene.id).await?;
    assert_eq!(sandbox.labels["io.kubernetes.pod.name"], "cadvisor");
    assert_eq!(sandbox.labels["io.cri-containerd.kind"], "sandbox");
    let holder = client.task(&scene.id).await?;
    assert_eq!(holder.status, 2);
    assert_eq!(interfaces(holder.pid)?, interfaces(task.pid)?);
    let (of_pod, of_main) = (cgroup(holder.pid)?, cgroup(task.pid)?);
    assert_eq!(of_pod.replace(&scene.id, ""), of_main.replace(&main, ""), "beside each other");
    assert!(of_pod.contains(&scene.id));
    // It is no init of anything: a container has its own PID namespace.
    assert!(!scene.sh(&main, "cat /proc/1/comm").await?.contains("cricket"));

    // Its end costs metrics, not the pod.
    cricket_testkit::host::run("kill", ["-9", &holder.pid.to_string()])?;
    until("the process to be forgotten", || async {
        Ok(client.task(&scene.id).await.is_err_and(|e| e.code() == tonic::Code::NotFound))
    })
    .await?;
    assert_eq!(scene.cri.pod(&scene.id).await?.state, i32::from(cricket_cri_api::v1::PodSandboxState::SandboxReady));
    assert_eq!(scene.sh(&main, "echo alive").await?, "alive");

    scene.cri.stop(&main, 0).await?;
    let ended = client.task(&main).await?;
    assert_eq!((ended.status, ended.exit_status), (3, 137));
    let id = scene.id.clone();
    let daemon = scene.node.clone();
    scene.end().await?;
    assert_eq!(client.container(&id).await.expect_err("gone").code(), tonic::Code::NotFound);
    daemon.daemon.assert_no_leaks(SOON)?;
    Ok(())
}

/// cAdvisor sees a control group when it is made, before its pod is there, and asks only once.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_being_made_is_waited_for() -> Result<()> {
    let (node, socket, _dir) = node().await?;
    let client = Client::connect(&socket).await?;
    // It is waited for a second: what a busy machine does not make in that time says nothing.
    for _ in 0..10 {
        let (took, scene, found) = asked_early(&node, &client).await?;
        let id = scene.id.clone();
        scene.end().await?;
        match found {
            Ok(found) => {
                assert_eq!(found.id, id);
                return Ok(());
            }
            Err(status) => anyhow::ensure!(took > Duration::from_millis(900), "not found {took:?} before: {status}"),
        }
    }
    anyhow::bail!("no pod was made within a second")
}

/// A pod, what was answered of it to who asked when its control group was made, and how long it took from there.
async fn asked_early(node: &Arc<Node>, client: &Client) -> Result<(Duration, Scene, Result<Container, Status>)> {
    let pod = cri::host_network(node.daemon.pod("cadvisor-early"));
    let parent = pod.linux.as_ref().context("a parent")?.cgroup_parent.clone();
    let mut hierarchies = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].into_iter().map(Path::new);
    let hierarchy = hierarchies.find(|dir| dir.join("cgroup.procs").exists()).context("control groups")?;
    let dir = hierarchy.join(parent.trim_start_matches('/'));
    let first = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        loop {
            let names = cricket_testkit::leaks::names(&dir);
            if let Some(id) = names.iter().find_map(|name| name.split(['-', '.']).find(|part| part.len() == 64)) {
                return Ok((id.to_owned(), Instant::now()));
            }
            anyhow::ensure!(began.elapsed() < SOON, "no control group in {}", dir.display());
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    let asked = async {
        let (id, seen) = first.await??;
        anyhow::Ok((seen, client.container(&id).await))
    };
    let made = async {
        let scene = Scene::with(node.clone(), pod).await;
        (scene, Instant::now())
    };
    let ((scene, made), asked) = tokio::join!(made, asked);
    let (scene, (seen, found)) = (scene?, asked?);
    Ok((made.duration_since(seen), scene, found))
}

#[tokio::test]
async fn a_pod_that_shares_its_pid_namespace_has_one_such_process() -> Result<()> {
    let (node, socket, _dir) = node().await?;
    let mut pod = cri::host_network(node.daemon.pod("cadvisor-shared"));
    let options = crate::support::pod_security(&mut pod).namespace_options.get_or_insert_default();
    options.pid = cricket_cri_api::v1::NamespaceMode::Pod.into();
    let scene = Scene::with(node, pod).await?;
    let client = Client::connect(&socket).await?;
    let mut config = idle("main");
    let options = crate::support::security(&mut config).namespace_options.get_or_insert_default();
    options.pid = cricket_cri_api::v1::NamespaceMode::Pod.into();
    let main = scene.run(&config).await?;
    let holder = client.task(&scene.id).await?;
    assert_eq!(scene.sh(&main, "cat /proc/1/comm").await?, "cricket-init");
    let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    assert_eq!(of(holder.pid)?, of(scene.pid(&main).await?)?);
    scene.end().await
}

#[tokio::test]
async fn nothing_else_of_containerd_is_there() -> Result<()> {
    let (node, socket, dir) = node().await?;
    let client = Client::connect(&socket).await?;
    let call =
        |path, namespace, id: &str| client.call::<Id, ContainerAnswer>(path, namespace, Id { id: id.to_owned() });
    let get = "/containerd.services.containers.v1.Containers/Get";
    let code = |answer: Result<ContainerAnswer, Status>| answer.expect_err("refused").code();
    let nobody = "0".repeat(64);
    assert_eq!(code(call(get, "k8s.io", &nobody).await), tonic::Code::NotFound);
    assert_eq!(code(call(get, "moby", &nobody).await), tonic::Code::NotFound);
    assert_eq!(code(call(get, "k8s.io", "").await), tonic::Code::NotFound);
    let delete = "/containerd.services.containers.v1.Containers/Delete";
    assert_eq!(code(call(delete, "k8s.io", &nobody).await), tonic::Code::Unimplemented);
    let long = "x".repeat(100_000);
    assert_eq!(code(call(get, "k8s.io", &long).await), tonic::Code::OutOfRange);

    // A second one does not take the socket away, and serves all the same.
    let own_keys = format!("cadvisor_socket = {:?}\n", socket.display().to_string());
    let other = Node::with(Options { own_keys, ..Options::default() }).await?;
    assert!(other.daemon.log().contains("cAdvisor is not answered"), "{}", other.daemon.log());
    drop(other);
    assert!(socket.exists());
    client.call::<(), Version>("/containerd.services.version.v1.Version/Version", "k8s.io", ()).await?;
    // Nor is one removed that somebody else has put there meanwhile.
    let moved = dir.path().join("moved");
    std::fs::rename(&socket, &moved)?;
    std::fs::write(&socket, "another's")?;
    let mut node = Arc::try_unwrap(node).ok().context("the only owner")?;
    node.daemon.stop()?;
    assert_eq!(std::fs::read_to_string(&socket)?, "another's");
    Ok(())
}
