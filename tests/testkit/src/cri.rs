//! A thin CRI client. Requests and answers are the generated types of
//! `cricket_cri_api::v1`; errors are tonic's, so that tests can look at codes.

use crate::host;
use anyhow::{Context, Result, bail};
use cricket_cri_api::v1;
use std::path::Path;
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

/// What one call answers.
pub type Answer<T> = std::result::Result<T, Status>;

/// The limit that kubelets set for an answer, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Both services of one socket.
#[derive(Clone)]
pub struct Cri {
    channel: Channel,
}

impl Cri {
    /// Connects to a unix socket.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let channel = Endpoint::try_from(format!("unix://{}", socket.display()))?.connect().await;
        Ok(Self { channel: channel.with_context(|| socket.display().to_string())? })
    }

    /// The runtime service, for calls without a helper here.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The image service, for calls without a helper here.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// PullImage without credentials; the reference that it answers.
    pub async fn pull(&self, image: &str) -> Answer<String> {
        self.pull_with(image, None).await
    }

    /// PullImage.
    pub async fn pull_with(&self, image: &str, auth: Option<v1::AuthConfig>) -> Answer<String> {
        let request = v1::PullImageRequest { image: Some(image_spec(image)), auth, sandbox_config: None };
        Ok(self.images().pull_image(request).await?.into_inner().image_ref)
    }

    /// ImageStatus; nothing when the image is not there.
    pub async fn image(&self, image: &str) -> Answer<Option<v1::Image>> {
        let request = v1::ImageStatusRequest { image: Some(image_spec(image)), verbose: false };
        Ok(self.images().image_status(request).await?.into_inner().image)
    }

    /// RemoveImage.
    pub async fn remove_image(&self, image: &str) -> Answer<()> {
        let request = v1::RemoveImageRequest { image: Some(image_spec(image)) };
        self.images().remove_image(request).await.map(drop)
    }

    /// RunPodSandbox with the default handler.
    pub async fn run_pod(&self, config: &v1::PodSandboxConfig) -> Answer<String> {
        self.run_pod_with(config, "").await
    }

    /// RunPodSandbox with a handler.
    pub async fn run_pod_with(&self, config: &v1::PodSandboxConfig, handler: &str) -> Answer<String> {
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        Ok(self.runtime().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    /// PodSandboxStatus.
    pub async fn pod(&self, id: &str) -> Answer<v1::PodSandboxStatus> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.runtime().pod_sandbox_status(request).await?.into_inner();
        answer.status.ok_or_else(|| Status::internal("no status in the answer"))
    }

    /// ListPodSandbox without a filter.
    pub async fn pods(&self) -> Answer<Vec<v1::PodSandbox>> {
        Ok(self.runtime().list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await?.into_inner().items)
    }

    /// StopPodSandbox.
    pub async fn stop_pod(&self, id: &str) -> Answer<()> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime().stop_pod_sandbox(request).await.map(drop)
    }

    /// RemovePodSandbox.
    pub async fn remove_pod(&self, id: &str) -> Answer<()> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime().remove_pod_sandbox(request).await.map(drop)
    }

    /// Stops and removes every pod; goes on after errors and reports them all.
    pub async fn remove_all_pods(&self) -> Result<()> {
        let mut failed = Vec::new();
        for pod in self.pods().await? {
            for result in [self.stop_pod(&pod.id).await, self.remove_pod(&pod.id).await] {
                failed.extend(result.err().map(|status| format!("{}: {status}", pod.id)));
            }
        }
        if failed.is_empty() { Ok(()) } else { bail!(failed.join("\n")) }
    }

    /// CreateContainer.
    pub async fn create(
        &self,
        pod: &str,
        config: &v1::ContainerConfig,
        sandbox: &v1::PodSandboxConfig,
    ) -> Answer<String> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox.clone()),
        };
        Ok(self.runtime().create_container(request).await?.into_inner().container_id)
    }

    /// StartContainer.
    pub async fn start(&self, id: &str) -> Answer<()> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.runtime().start_container(request).await.map(drop)
    }

    /// CreateContainer and StartContainer.
    pub async fn run(&self, pod: &str, config: &v1::ContainerConfig, sandbox: &v1::PodSandboxConfig) -> Answer<String> {
        let id = self.create(pod, config, sandbox).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// StopContainer with a grace period in seconds.
    pub async fn stop(&self, id: &str, timeout: i64) -> Answer<()> {
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout };
        self.runtime().stop_container(request).await.map(drop)
    }

    /// RemoveContainer.
    pub async fn remove(&self, id: &str) -> Answer<()> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime().remove_container(request).await.map(drop)
    }

    /// ContainerStatus.
    pub async fn container(&self, id: &str) -> Answer<v1::ContainerStatus> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.runtime().container_status(request).await?.into_inner();
        answer.status.ok_or_else(|| Status::internal("no status in the answer"))
    }

    /// ListContainers without a filter.
    pub async fn containers(&self) -> Answer<Vec<v1::Container>> {
        let request = v1::ListContainersRequest { filter: None };
        Ok(self.runtime().list_containers(request).await?.into_inner().containers)
    }

    /// The status of a container once it has exited.
    pub async fn wait_exit(&self, id: &str, limit: Duration) -> Result<v1::ContainerStatus> {
        let (began, limit) = (Instant::now(), crate::host::patient(limit));
        loop {
            let status = self.container(id).await?;
            if status.state() == v1::ContainerState::ContainerExited {
                return Ok(status);
            }
            if began.elapsed() > limit {
                bail!("container {id} is {:?} after {limit:?}", status.state());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// ExecSync; the timeout is in seconds, 0 means none.
    pub async fn exec(&self, id: &str, command: &[&str], timeout: i64) -> Answer<v1::ExecSyncResponse> {
        let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd: words(command), timeout };
        Ok(self.runtime().exec_sync(request).await?.into_inner())
    }

    /// Standard output of a command that must succeed.
    pub async fn exec_text(&self, id: &str, command: &[&str]) -> Result<String> {
        let answer = self.exec(id, command, 30).await?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if answer.exit_code != 0 {
            bail!("{command:?}: exit code {}: {}", answer.exit_code, text(&answer.stderr));
        }
        Ok(text(&answer.stdout))
    }
}

/// A pod's configuration with a name and a unique UID, in the namespace
/// `default`; logs go nowhere and the cgroup parent is the runtime's choice
/// (see [`crate::daemon::Daemon::pod`]).
pub fn pod(name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: host::uuid(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(own_pids()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What a kubelet asks for unless a pod says otherwise: the pod's network and
/// IPC, a PID namespace for each container.
fn own_pids() -> v1::NamespaceOption {
    v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() }
}

/// A pod's configuration on the host's network.
pub fn host_network(mut config: v1::PodSandboxConfig) -> v1::PodSandboxConfig {
    let linux = config.linux.get_or_insert_default();
    let options = linux.security_context.get_or_insert_default().namespace_options.get_or_insert_default();
    options.set_network(v1::NamespaceMode::Node);
    config
}

/// A container's configuration; its log is `NAME.log` in the pod's directory.
pub fn container(name: &str, image: &str, command: &[&str]) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(image_spec(image)),
        command: words(command),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig {
            resources: None,
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(own_pids()),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// An image by the name a user wrote.
pub fn image_spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..Default::default() }
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).collect()
}
