//! What plugins are asked and told, in the order of a pod's and a container's life.

use prost::Message;

use super::{List, Plugins};
use crate::api::{self, Container, ContainerAdjustment, Event, LinuxResources, PodSandbox};
use crate::error::{Error, Result};
use crate::merge::{Creating, Updating};
use crate::validate;

impl Plugins {
    /// Tells every plugin in turn, up to the first that refuses.
    async fn tell<Q: Message>(
        &self,
        list: &List,
        event: (Event, &'static str),
        request: &Q,
        about: (&PodSandbox, Option<&Container>),
    ) -> Result<()> {
        for plugin in list {
            plugin.tell(event, request, about, self.terms.request).await?;
        }
        Ok(())
    }

    /// A pod has its namespaces and network. Refused: the pod must not come to be, and plugins know that it is gone.
    pub async fn run_pod_sandbox(&self, pod: &PodSandbox) -> Result<()> {
        let list = self.list().await;
        self.memory().pods.insert(pod.id.clone(), pod.clone());
        let request = api::RunPodSandboxRequest { pod: Some(pod.clone()) };
        let told = self.tell(&list, (Event::RunPodSandbox, "RunPodSandbox"), &request, (pod, None)).await;
        if told.is_err() {
            self.undo_pod(&list, pod).await;
        }
        told
    }

    /// The snapshot shows the pod from now on.
    pub fn pod_shown(&self, id: &str) {
        self.memory().pods.remove(id);
    }

    /// A pod that plugins were told of did not come to be.
    pub async fn undo_pod_sandbox(&self, pod: &PodSandbox) {
        let list = self.list().await;
        self.undo_pod(&list, pod).await;
    }

    async fn undo_pod(&self, list: &List, pod: &PodSandbox) {
        self.memory().pods.remove(&pod.id);
        let request = api::StopPodSandboxRequest { pod: Some(pod.clone()) };
        said(self.tell(list, (Event::StopPodSandbox, "StopPodSandbox"), &request, (pod, None)).await);
        let request = api::RemovePodSandboxRequest { pod: Some(pod.clone()) };
        said(self.tell(list, (Event::RemovePodSandbox, "RemovePodSandbox"), &request, (pod, None)).await);
    }

    /// The pod's resources are to change.
    pub async fn update_pod_sandbox(
        &self,
        pod: &PodSandbox,
        overhead: LinuxResources,
        resources: LinuxResources,
    ) -> Result<()> {
        let (overhead_linux_resources, linux_resources) = (Some(overhead), Some(resources));
        let request =
            api::UpdatePodSandboxRequest { pod: Some(pod.clone()), overhead_linux_resources, linux_resources };
        let event = (Event::UpdatePodSandbox, "UpdatePodSandbox");
        self.tell(&*self.list().await, event, &request, (pod, None)).await
    }

    /// The pod's resources have changed.
    pub async fn post_update_pod_sandbox(&self, pod: &PodSandbox) -> Result<()> {
        let request = api::PostUpdatePodSandboxRequest { pod: Some(pod.clone()) };
        let event = (Event::PostUpdatePodSandbox, "PostUpdatePodSandbox");
        self.tell(&*self.list().await, event, &request, (pod, None)).await
    }

    /// The pod has stopped.
    pub async fn stop_pod_sandbox(&self, pod: &PodSandbox) -> Result<()> {
        let request = api::StopPodSandboxRequest { pod: Some(pod.clone()) };
        self.tell(&*self.list().await, (Event::StopPodSandbox, "StopPodSandbox"), &request, (pod, None)).await
    }

    /// The pod is gone: the snapshot does not show it any more.
    pub async fn remove_pod_sandbox(&self, pod: &PodSandbox) -> Result<()> {
        let request = api::RemovePodSandboxRequest { pod: Some(pod.clone()) };
        self.tell(&*self.list().await, (Event::RemovePodSandbox, "RemovePodSandbox"), &request, (pod, None)).await
    }

    /// Asks all plugins how to adjust a container that is to be made, and the validators whether that is allowed. Their
    /// updates and evictions of other containers are carried out afterwards.
    ///
    /// # Errors
    /// The container must not be made; plugins know that it is gone.
    pub async fn create_container(&self, pod: &PodSandbox, container: &Container) -> Result<ContainerAdjustment> {
        let list = self.list().await;
        self.memory().containers.insert(container.id.clone(), container.clone());
        let merged = self.ask_all(&list, pod, container).await;
        if merged.is_err() {
            self.undo_container(&list, pod, container).await;
        }
        merged
    }

    async fn ask_all(&self, list: &List, pod: &PodSandbox, container: &Container) -> Result<ContainerAdjustment> {
        let mut creating = Creating::new(container.clone());
        let (mut asked, mut evictions) = (Vec::new(), Vec::new());
        for plugin in list {
            asked.push(api::PluginInstance { name: plugin.base.clone(), index: plugin.index.clone() });
            let request =
                api::CreateContainerRequest { pod: Some(pod.clone()), container: Some(creating.container().clone()) };
            let answer: Option<api::CreateContainerResponse> =
                plugin.ask(Event::CreateContainer, "CreateContainer", &request, self.terms.request).await?;
            if let Some(answer) = answer {
                creating.apply(&answer, &plugin.name())?;
                evictions.extend(answer.evict);
            }
        }
        let (adjust, updates, owners) = creating.finish();
        let request = api::ValidateContainerAdjustmentRequest {
            pod: Some(pod.clone()),
            container: Some(container.clone()),
            adjust: Some(adjust.clone()),
            update: updates.clone(),
            owners: Some(owners),
            plugins: asked,
        };
        self.validate(list, &request).await?;
        self.carry_out(updates, evictions);
        Ok(adjust)
    }

    async fn validate(&self, list: &List, request: &api::ValidateContainerAdjustmentRequest) -> Result<()> {
        if self.config.validator.enable {
            validate::validate(&self.config.validator, request)
                .map_err(|reason| Error::Rejected { validator: validate::NAME.to_owned(), reason })?;
        }
        let validators = list.iter().filter(|p| p.is_open() && p.wants(Event::ValidateContainerAdjustment));
        let answers = validators.map(|plugin| async {
            let answer: api::ValidateContainerAdjustmentResponse =
                plugin.must("ValidateContainerAdjustment", request, self.terms.request).await?;
            if answer.reject {
                return Err(Error::Rejected { validator: plugin.name(), reason: answer.reason });
            }
            Ok(())
        });
        futures_util::future::join_all(answers).await.into_iter().collect()
    }

    /// The snapshot shows the container from now on.
    pub fn container_shown(&self, id: &str) {
        self.memory().containers.remove(id);
    }

    /// A container that plugins were told of did not come to be.
    pub async fn undo_create_container(&self, pod: &PodSandbox, container: &Container) {
        let list = self.list().await;
        self.undo_container(&list, pod, container).await;
    }

    async fn undo_container(&self, list: &List, pod: &PodSandbox, container: &Container) {
        self.memory().containers.remove(&container.id);
        said(self.stopped(list, pod, container).await);
        said(self.removed(list, pod, container).await);
    }

    /// The container is made.
    pub async fn post_create_container(&self, pod: &PodSandbox, container: &Container) -> Result<()> {
        let request = api::PostCreateContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        let event = (Event::PostCreateContainer, "PostCreateContainer");
        self.tell(&*self.list().await, event, &request, (pod, Some(container))).await
    }

    /// The container is to be started. Refused: it must not.
    pub async fn start_container(&self, pod: &PodSandbox, container: &Container) -> Result<()> {
        let request = api::StartContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        let event = (Event::StartContainer, "StartContainer");
        self.tell(&*self.list().await, event, &request, (pod, Some(container))).await
    }

    /// The container runs.
    pub async fn post_start_container(&self, pod: &PodSandbox, container: &Container) -> Result<()> {
        let request = api::PostStartContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        let event = (Event::PostStartContainer, "PostStartContainer");
        self.tell(&*self.list().await, event, &request, (pod, Some(container))).await
    }

    /// The container's limits are to change. What plugins make of them is returned, when one changed anything.
    pub async fn update_container(
        &self,
        pod: &PodSandbox,
        container: &Container,
        resources: LinuxResources,
    ) -> Result<Option<LinuxResources>> {
        let list = self.list().await;
        let mut updating = Updating::of(&container.id, resources);
        let mut evictions = Vec::new();
        for plugin in list.iter() {
            let request = api::UpdateContainerRequest {
                pod: Some(pod.clone()),
                container: Some(container.clone()),
                linux_resources: updating.resources().cloned(),
            };
            let answer: Option<api::UpdateContainerResponse> =
                plugin.ask(Event::UpdateContainer, "UpdateContainer", &request, self.terms.request).await?;
            if let Some(answer) = answer {
                updating.apply(&answer.update, &plugin.name())?;
                evictions.extend(answer.evict);
            }
        }
        let (own, others) = updating.finish();
        self.carry_out(others, evictions);
        Ok(own)
    }

    /// The container's limits have changed.
    pub async fn post_update_container(&self, pod: &PodSandbox, container: &Container) -> Result<()> {
        let request = api::PostUpdateContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        let event = (Event::PostUpdateContainer, "PostUpdateContainer");
        self.tell(&*self.list().await, event, &request, (pod, Some(container))).await
    }

    /// The container has ended, by whatever cause. Plugins are told once.
    pub async fn stop_container(&self, pod: &PodSandbox, container: &Container) -> Result<()> {
        self.stopped(&*self.list().await, pod, container).await
    }

    async fn stopped(&self, list: &List, pod: &PodSandbox, container: &Container) -> Result<()> {
        if !self.memory().stopped.insert(container.id.clone()) {
            return Ok(());
        }
        let mut updating = Updating::new();
        let request = api::StopContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        for plugin in list {
            let answer: Option<api::StopContainerResponse> =
                plugin.ask(Event::StopContainer, "StopContainer", &request, self.terms.request).await?;
            if let Some(answer) = answer {
                updating.apply(&answer.update, &plugin.name())?;
            }
        }
        let (_, others) = updating.finish();
        self.carry_out(others, Vec::new());
        Ok(())
    }

    /// The container is gone: the snapshot does not show it any more. Plugins that do not know of its end hear of it.
    pub async fn remove_container(&self, pod: &PodSandbox, container: &Container) -> Result<()> {
        let list = self.list().await;
        said(self.stopped(&list, pod, container).await);
        self.removed(&list, pod, container).await
    }

    async fn removed(&self, list: &List, pod: &PodSandbox, container: &Container) -> Result<()> {
        self.memory().stopped.remove(&container.id);
        let request = api::RemoveContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        let event = (Event::RemoveContainer, "RemoveContainer");
        self.tell(list, event, &request, (pod, Some(container))).await
    }
}

/// What is undone is undone whatever plugins say.
fn said(result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "NRI plugin refused what has happened");
    }
}
