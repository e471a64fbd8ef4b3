//! The registry of pods and what RPCs may ask of it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cricket_cri_api::v1;
use cricket_model::{ContainerId, ErrorKind, SandboxId};
use tokio::sync::{broadcast, oneshot};

use crate::driver::{Command, Driver, PodHandle, Reply};
use crate::error::{Error, Result, unanswered};
use crate::joins::{Begin, Joins};
use crate::record::{ContainerRecord, ContainerState, PodResources, SandboxRecord, Stored};
use crate::shared::{Event, Shared};
use crate::view::{PodView, by_prefix};

/// All pods of the node. Cheap to clone.
#[derive(Clone)]
pub struct Pods(pub(crate) Arc<Registry>);

pub(crate) struct Registry {
    pub(crate) shared: Arc<Shared>,
    pods: RwLock<HashMap<SandboxId, Arc<PodHandle>>>,
    creates: Joins<(v1::PodSandboxConfig, String)>,
}

/// An ID that has been made, to be handed to a caller: dropped without [`Told::tell`], nobody was told of it.
pub struct Told {
    id: String,
    key: String,
    pod: Option<Arc<PodHandle>>,
    registry: Arc<Registry>,
}

impl Told {
    /// The response is being handed over: from here on the ID is the caller's.
    pub fn tell(self) -> String {
        match &self.pod {
            Some(pod) => pod.creates.told(&self.key, &self.id),
            None => self.registry.creates.told(&self.key, &self.id),
        }
        self.id
    }
}

impl Pods {
    /// An empty registry; [`Pods::restore`](crate::restore) fills it.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Registry { shared, pods: RwLock::default(), creates: Joins::default() }))
    }

    /// What all drivers share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// Every state change from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.shared.events.subscribe()
    }

    fn handles(&self) -> Vec<Arc<PodHandle>> {
        self.0.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Pictures of all pods that lists show.
    pub fn list(&self) -> Vec<Arc<PodView>> {
        self.handles().iter().map(|h| h.view.load_full()).filter(|v| v.listed()).collect()
    }

    /// Pictures of all pods, those included that are being made or removed.
    pub fn all(&self) -> Vec<Arc<PodView>> {
        self.handles().iter().map(|h| h.view.load_full()).collect()
    }

    pub(crate) fn handle(&self, id: &str) -> Result<Arc<PodHandle>> {
        let handles = self.handles();
        let listed = handles.iter().filter(|h| h.view.load().listed());
        by_prefix("pod sandbox", id, listed.map(|h| (h, h.id.as_str()))).cloned()
    }

    /// The same for what ends a pod: one whose removal failed half-way is on no list and can still be removed.
    fn any_handle(&self, id: &str) -> Result<Arc<PodHandle>> {
        by_prefix("pod sandbox", id, self.handles().iter().map(|h| (h, h.id.as_str()))).cloned()
    }

    /// The pod with this ID or unambiguous ID prefix.
    pub fn pod(&self, id: &str) -> Result<Arc<PodView>> {
        Ok(self.handle(id)?.view.load_full())
    }

    fn find(&self, id: &str) -> Result<(Arc<PodHandle>, Arc<PodView>, Arc<ContainerRecord>)> {
        let views = self.views();
        let listed = views.iter().filter(|(_, view)| view.listed());
        let all = listed.flat_map(|(h, v)| v.containers().map(move |c| ((h, v, c), c.id.as_str())));
        by_prefix("container", id, all).map(|(h, v, c)| (h.clone(), v.clone(), c.clone()))
    }

    fn views(&self) -> Vec<(Arc<PodHandle>, Arc<PodView>)> {
        let picture = |handle: Arc<PodHandle>| {
            let view = handle.view.load_full();
            (handle, view)
        };
        self.handles().into_iter().map(picture).collect()
    }

    /// The pod of a container whose removal failed half-way, too.
    fn removable(&self, id: &str) -> Result<(Arc<PodHandle>, ContainerId)> {
        let views = self.views();
        let removable = |c: &ContainerRecord| c.listed() || c.state == ContainerState::Removing;
        let all = views.iter().flat_map(|(h, v)| v.record.containers.iter().map(move |c| (h, c)));
        let all = all.filter(|(_, c)| removable(c)).map(|(h, c)| ((h, &c.id), c.id.as_str()));
        by_prefix("container", id, all).map(|(h, id)| (h.clone(), id.clone()))
    }

    /// The container with this ID or unambiguous ID prefix, and its pod.
    pub fn container(&self, id: &str) -> Result<(Arc<PodView>, Arc<ContainerRecord>)> {
        self.find(id).map(|(_, view, container)| (view, container))
    }

    /// RunPodSandbox.
    ///
    /// The work goes on when the caller goes away; an equal request joins it.
    ///
    /// # Errors
    /// Among others `AlreadyExists` naming the ID of a sandbox with the same name, and whatever a stage answers.
    pub async fn run_sandbox(&self, config: v1::PodSandboxConfig, handler: String) -> Result<Told> {
        cricket_oci::validate_sandbox(&config).map_err(|e| Error::from_kinded("sandbox", &e))?;
        let key = SandboxRecord::key(&config);
        let request = (config.clone(), handler.clone());
        let told = |id: String| Told { id, key: key.clone(), pod: None, registry: self.0.clone() };
        loop {
            match self.0.creates.begin(&key, &request) {
                Begin::Lead(lead) => {
                    let wait = self.0.creates.wait(&lead);
                    let pods = self.clone();
                    tokio::spawn(async move {
                        let made = lead.stage().scope(crate::sandbox::run(&pods.0.shared, config, handler)).await;
                        let outcome = made.map(|driver| pods.adopt(driver));
                        pods.0.creates.finish(lead, outcome);
                    });
                    return wait.outcome().await.map(told);
                }
                Begin::Join(wait) => return wait.outcome().await.map(told),
                Begin::Adopt(id) => return Ok(told(id)),
                Begin::Replace(id) => self.remove_sandbox(&id).await?,
                Begin::Busy => return Err(busy("pod sandbox", &key)),
                Begin::Exists(id) => return Err(exists("pod sandbox", &key, &id)),
            }
        }
    }

    /// Lists a pod and starts its driver; answers its ID.
    pub(crate) fn adopt(&self, driver: Driver) -> String {
        let handle = driver.handle.clone();
        self.0.pods.write().unwrap_or_else(PoisonError::into_inner).insert(handle.id.clone(), handle.clone());
        driver.announce();
        self.0.shared.nri.sandbox_shown(&driver.record.sandbox);
        let registry = self.0.clone();
        tokio::spawn(driver.run(move |pod| {
            registry.pods.write().unwrap_or_else(PoisonError::into_inner).remove(&pod.id);
            registry.creates.forget(&SandboxRecord::key(&pod.view.load().record.sandbox.config.0), pod.id.as_str());
        }));
        handle.id.to_string()
    }

    /// Takes up the name of what an earlier daemon made.
    pub(crate) fn reserve(&self, record: &SandboxRecord) {
        let request = (record.config.0.clone(), record.handler.clone());
        self.0.creates.restore(&SandboxRecord::key(&record.config.0), record.id.as_str(), request);
    }

    async fn ask<T>(handle: &PodHandle, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let ended = || Error::not_found("pod sandbox", handle.id.as_str());
        handle.commands.send(command(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// StopPodSandbox. An unknown ID is no error.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let Some(handle) = known(self.any_handle(id))? else { return Ok(()) };
        forgive_gone(Self::ask(&handle, |reply| Command::StopSandbox { reply }).await)
    }

    /// RemovePodSandbox. An unknown ID is no error.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let Some(handle) = known(self.any_handle(id))? else { return Ok(()) };
        forgive_gone(Self::ask(&handle, |reply| Command::RemoveSandbox { reply }).await)
    }

    /// CreateContainer; joins and repeats as [`Pods::run_sandbox`].
    ///
    /// # Errors
    /// `NotFound` for an unknown sandbox or image, `FailedPrecondition` for a sandbox that is not ready, and so on.
    pub async fn create_container(
        &self,
        sandbox_id: &str,
        config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
    ) -> Result<Told> {
        cricket_oci::validate_container(&config, &sandbox).map_err(|e| Error::from_kinded("container", &e))?;
        let handle = self.handle(sandbox_id)?;
        let key = ContainerRecord::key(&config);
        let request = config.clone();
        let told = |id: String| Told { id, key: key.clone(), pod: Some(handle.clone()), registry: self.0.clone() };
        loop {
            match handle.creates.begin(&key, &request) {
                Begin::Lead(lead) => {
                    let wait = handle.creates.wait(&lead);
                    let pod = handle.clone();
                    tokio::spawn(async move {
                        let (config, sandbox, stage) = (Box::new(config), Box::new(sandbox), lead.stage());
                        let made = Self::ask(&pod, |reply| Command::Create { config, sandbox, stage, reply }).await;
                        pod.creates.finish(lead, made.map(|id: ContainerId| id.to_string()));
                    });
                    return wait.outcome().await.map(told);
                }
                Begin::Join(wait) => return wait.outcome().await.map(told),
                Begin::Adopt(id) => return Ok(told(id)),
                Begin::Replace(id) => self.remove_container(&id).await?,
                Begin::Busy => return Err(busy("container", &key)),
                Begin::Exists(id) => return Err(exists("container", &key, &id)),
            }
        }
    }

    /// StartContainer.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let (handle, _, container) = self.find(id)?;
        // The start goes on when the caller goes away: the driver owns it.
        Self::ask(&handle, |reply| Command::Start { id: container.id.clone(), reply }).await
    }

    /// StopContainer: answers when the container has ended. An unknown ID is no error.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Some((handle, _, container)) = known(self.find(id))? else { return Ok(()) };
        forgive_gone(Self::ask(&handle, |reply| Command::Stop { id: container.id.clone(), grace, reply }).await)
    }

    /// RemoveContainer, by force where it runs. An unknown ID is no error.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let Some((handle, id)) = known(self.removable(id))? else { return Ok(()) };
        forgive_gone(Self::ask(&handle, |reply| Command::Remove { id, reply }).await)
    }

    /// UpdateContainerResources: zero means unchanged. Plugins may change it further.
    pub async fn update_container(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<()> {
        let (view, container) = self.container(id)?;
        let (nri, sandbox) = (&self.0.shared.nri, &view.record.sandbox);
        let spec = view.live.get(&container.id).map(|live| live.spec.clone());
        let resources = nri.update(sandbox, &container, spec.as_deref(), resources).await?;
        self.set_limits(container.id.as_str(), resources).await?;
        if let Ok((view, container)) = self.container(container.id.as_str()) {
            nri.updated(&view.record.sandbox, &container, spec.as_deref());
        }
        Ok(())
    }

    /// UpdatePodSandboxResources: the kubelet sizes the pod's cgroup itself. Plugins may refuse what it says;
    /// then it is kept, and plugins are told.
    pub async fn update_sandbox(
        &self,
        id: &str,
        overhead: v1::LinuxContainerResources,
        resources: v1::LinuxContainerResources,
    ) -> Result<()> {
        let view = self.pod(id)?;
        self.0.shared.nri.update_sandbox(&view.record.sandbox, &overhead, &resources).await?;
        let handle = self.handle(view.record.sandbox.id.as_str())?;
        let updated = Box::new(PodResources { overhead: Stored(overhead), resources: Stored(resources) });
        Self::ask(&handle, |reply| Command::UpdateSandbox { updated, reply }).await
    }

    /// Changes a container's limits: zero means unchanged.
    pub(crate) async fn set_limits(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<()> {
        let (handle, _, container) = self.find(id)?;
        let resources = Box::new(resources);
        Self::ask(&handle, |reply| Command::Update { id: container.id.clone(), resources, reply }).await
    }

    /// ReopenContainerLog.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let (view, container) = self.container(id)?;
        view.running(&container.id)?;
        let monitor = self.monitor_of(&view).await?;
        monitor.reopen_log(container.id.as_str()).await.map_err(|e| {
            Error::caused(unanswered(&e), format_args!("reopen the log of container {}", container.id), &e)
        })
    }

    /// With the systemd driver: what systemd's reloads write over is written again, for as long as the daemon runs.
    pub fn follow_reloads(&self) {
        crate::cgroups::follow_reloads(self.clone());
    }

    /// systemd has written its units' limits again.
    pub(crate) fn restore_limits(&self) {
        for handle in self.handles() {
            // One pod that is busy must not keep the news from the others.
            tokio::spawn(async move { handle.commands.send(Command::RestoreLimits).await });
        }
    }

    /// A pinned network namespace has been removed by somebody else.
    pub async fn netns_gone(&self, name: &std::ffi::OsStr) {
        for handle in self.handles() {
            let view = handle.view.load_full();
            if view.record.sandbox.netns.as_deref().and_then(std::path::Path::file_name) == Some(name) {
                // One pod that is busy must not keep the news from the others.
                tokio::spawn(async move { handle.commands.send(Command::NetnsGone).await });
            }
        }
    }
}

fn known<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(t) => Ok(Some(t)),
        Err(e) if is_not_found(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// It went away while we asked: what was wanted has happened.
fn forgive_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if is_not_found(&e) => Ok(()),
        other => other,
    }
}

fn is_not_found(e: &Error) -> bool {
    cricket_model::Kinded::kind(e) == ErrorKind::NotFound
}

fn busy(what: &str, key: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format_args!("another, different create of {what} {key:?} is in flight"))
}

fn exists(what: &str, key: &str, id: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format_args!("{what} {key:?} exists: {id}"))
}
