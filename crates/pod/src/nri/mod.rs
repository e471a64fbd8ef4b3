//! The pods and the plugins of the Node Resource Interface.
//!
//! ```text
//! RPC, flight ── request (waits) ──┐
//! driver ─────── notice (does not) ┴▶ one queue, in the order asked ─▶ Plugins
//! Plugins ── updates, evictions ─▶ Bridge ─▶ Pods ─▶ driver
//! ```
//!
//! Invariants: a driver never waits for a plugin; what plugins are told comes in the order in which it happened.

mod bridge;
mod describe;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cricket_cri_api::v1;
use cricket_model::ErrorKind;
use cricket_nri::api::{self, ContainerAdjustment};
use cricket_nri::{Config, Facts, Injector, Plugins};
use cricket_oci::oci_spec::runtime::Spec;
use cricket_runtime::handlers::{Handler, YOUKI_TYPE};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::host::LivePaths;
use crate::pods::Pods;
use crate::record::{ContainerRecord, SandboxRecord};
use crate::shared::{Shared, blocking};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The plugins, as drivers and RPCs need them. Where they are disabled, everything here does nothing.
pub struct Nri {
    plugins: Arc<Plugins>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Nri {
    /// None yet; within a Tokio runtime.
    pub fn new(config: Config, version: &str) -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        tokio::spawn(async move {
            while let Some(job) = queue.recv().await {
                // In a task of its own, so that a panic is that job's only.
                if let Err(e) = tokio::spawn(job).await {
                    tracing::error!(error = %e, "a request to NRI plugins was lost");
                }
            }
        });
        Self { plugins: Plugins::new(config, "cricket", version), jobs }
    }

    /// Starts and takes plugins: they may see and change these pods from now on. What keeps plugins away is said, and
    /// does not keep the pods from their kubelet.
    pub async fn start(&self, pods: &Pods) {
        if let Err(e) = self.plugins.start(Arc::new(bridge::Bridge(pods.clone()))).await {
            tracing::error!(error = %e, "NRI plugins cannot all be used");
        }
    }

    /// Queues what plugins are told, and goes on.
    fn notice<F>(&self, job: impl FnOnce(Arc<Plugins>) -> F)
    where
        F: Future<Output = cricket_nri::Result<()>> + Send + 'static,
    {
        if !self.plugins.enabled() {
            return;
        }
        let told = job(self.plugins.clone());
        let job = async move {
            if let Err(e) = told.await {
                tracing::warn!(error = %e, "NRI plugin refused what has happened");
            }
        };
        // The queue ends with the daemon.
        let _ = self.jobs.send(Box::pin(job));
    }

    /// Queues a question and waits for its answer.
    async fn request<T, F>(&self, job: impl FnOnce(Arc<Plugins>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = cricket_nri::Result<T>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let asked = job(self.plugins.clone());
        let _ = self.jobs.send(Box::pin(async move { drop(sender.send(asked.await)) }));
        match answer.await {
            Ok(answer) => answer.map_err(|e| refused(&e)),
            Err(_) => Err(Error::new(ErrorKind::Internal, "NRI plugins could not be asked")),
        }
    }

    /// RunPodSandbox: the pod has its namespaces and network.
    pub(crate) async fn run_sandbox(&self, sandbox: &SandboxRecord) -> Result<()> {
        if !self.plugins.enabled() {
            return Ok(());
        }
        let pod = describe::pod(sandbox);
        self.request(|plugins| async move { plugins.run_pod_sandbox(&pod).await }).await
    }

    /// The pod is on the lists.
    pub(crate) fn sandbox_shown(&self, sandbox: &SandboxRecord) {
        self.plugins.pod_shown(sandbox.id.as_str());
    }

    /// A pod that plugins were told of is not made after all.
    pub(crate) fn undo_sandbox(&self, sandbox: &SandboxRecord) {
        let pod = describe::pod(sandbox);
        self.notice(|plugins| async move {
            plugins.undo_pod_sandbox(&pod).await;
            Ok(())
        });
    }

    pub(crate) fn sandbox_stopped(&self, sandbox: &SandboxRecord) {
        let pod = describe::pod(sandbox);
        self.notice(|plugins| async move { plugins.stop_pod_sandbox(&pod).await });
    }

    pub(crate) fn sandbox_removed(&self, sandbox: &SandboxRecord) {
        let pod = describe::pod(sandbox);
        self.notice(|plugins| async move { plugins.remove_pod_sandbox(&pod).await });
    }

    /// UpdatePodSandboxResources: plugins may refuse; they are told when it is done.
    pub(crate) async fn update_sandbox(
        &self,
        sandbox: &SandboxRecord,
        overhead: &v1::LinuxContainerResources,
        resources: &v1::LinuxContainerResources,
    ) -> Result<()> {
        if !self.plugins.enabled() {
            return Ok(());
        }
        let pod = describe::pod(sandbox);
        let (overhead, resources) = (cricket_nri::resources(overhead), cricket_nri::resources(resources));
        self.request(|plugins| async move { plugins.update_pod_sandbox(&pod, overhead, resources).await }).await
    }

    /// The pod's record says what it is to have.
    pub(crate) fn sandbox_updated(&self, sandbox: &SandboxRecord) {
        let pod = describe::pod(sandbox);
        self.notice(|plugins| async move { plugins.post_update_pod_sandbox(&pod).await });
    }

    /// CreateContainer: asks how the container is to be, and adjusts its specification. Returns the limits that its
    /// record has to have.
    ///
    /// # Errors
    /// The container must not be made; plugins know that it is not. `spec` is not to be used then.
    pub(crate) async fn create(
        &self,
        shared: &Arc<Shared>,
        sandbox: &SandboxRecord,
        record: &ContainerRecord,
        handler: &Arc<dyn Handler>,
        spec: &mut Spec,
    ) -> Result<v1::LinuxContainerResources> {
        let limits = record.resources.0.clone();
        if !self.plugins.enabled() {
            return Ok(limits);
        }
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, Some(spec)));
        let adjust = self.request(|plugins| async move { plugins.create_container(&pod, &container).await }).await?;
        let (shared, handler, mut adjusting) = (shared.clone(), handler.clone(), std::mem::take(spec));
        // Paths that plugins and CDI specifications name are looked at, and may be on whatever does not answer.
        let made = blocking("adjust the specification", move || {
            check(&adjust, handler.as_ref())?;
            let limits = adjust_all(&shared, handler.as_ref(), &mut adjusting, &adjust, limits)?;
            Ok((adjusting, limits))
        });
        let made = made.await.map(|(adjusted, limits)| {
            *spec = adjusted;
            limits
        });
        made.inspect_err(|_| self.undo(sandbox, record))
    }

    /// A container that plugins were told of is not made after all.
    pub(crate) fn undo(&self, sandbox: &SandboxRecord, record: &ContainerRecord) {
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, None));
        self.notice(|plugins| async move {
            plugins.undo_create_container(&pod, &container).await;
            Ok(())
        });
    }

    /// The container is on the lists.
    pub(crate) fn created(&self, sandbox: &SandboxRecord, record: &ContainerRecord) {
        self.plugins.container_shown(record.id.as_str());
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, None));
        self.notice(|plugins| async move { plugins.post_create_container(&pod, &container).await });
    }

    /// StartContainer: plugins may refuse.
    pub(crate) async fn start_container(
        &self,
        sandbox: &SandboxRecord,
        record: &ContainerRecord,
        spec: &Spec,
    ) -> Result<()> {
        if !self.plugins.enabled() {
            return Ok(());
        }
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, Some(spec)));
        self.request(|plugins| async move { plugins.start_container(&pod, &container).await }).await
    }

    pub(crate) fn started(&self, sandbox: &SandboxRecord, record: &ContainerRecord, spec: &Spec) {
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, Some(spec)));
        self.notice(|plugins| async move { plugins.post_start_container(&pod, &container).await });
    }

    /// UpdateContainerResources: what plugins make of it.
    pub(crate) async fn update(
        &self,
        sandbox: &SandboxRecord,
        record: &ContainerRecord,
        spec: Option<&Spec>,
        wanted: v1::LinuxContainerResources,
    ) -> Result<v1::LinuxContainerResources> {
        if !self.plugins.enabled() {
            return Ok(wanted);
        }
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, spec));
        let resources = cricket_nri::resources(&wanted);
        let changed =
            self.request(|plugins| async move { plugins.update_container(&pod, &container, resources).await }).await?;
        match changed {
            Some(changed) => {
                describe::updatable(&changed).map_err(|e| Error::precondition(format_args!("NRI: {e}")))?;
                let oom_score_adj = wanted.oom_score_adj;
                Ok(v1::LinuxContainerResources { oom_score_adj, ..cricket_nri::cri_resources(&changed) })
            }
            None => Ok(wanted),
        }
    }

    pub(crate) fn updated(&self, sandbox: &SandboxRecord, record: &ContainerRecord, spec: Option<&Spec>) {
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, spec));
        self.notice(|plugins| async move { plugins.post_update_container(&pod, &container).await });
    }

    /// The container has ended.
    pub(crate) fn stopped(&self, sandbox: &SandboxRecord, record: &ContainerRecord) {
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, None));
        self.notice(|plugins| async move { plugins.stop_container(&pod, &container).await });
    }

    pub(crate) fn removed(&self, sandbox: &SandboxRecord, record: &ContainerRecord) {
        let (pod, container) = (describe::pod(sandbox), describe::container(sandbox, record, None));
        self.notice(|plugins| async move { plugins.remove_container(&pod, &container).await });
    }
}

/// Refuses what would be skipped, or would harm others.
fn check(adjust: &ContainerAdjustment, handler: &dyn Handler) -> Result<()> {
    let linux = adjust.linux.clone().unwrap_or_default();
    let rdt = linux
        .rdt
        .as_ref()
        .is_some_and(|rdt| rdt.clos_id.is_some() || rdt.schemata.is_some() || rdt.enable_monitoring.is_some());
    let rdt_class = linux.resources.as_ref().and_then(|r| r.rdt_class.as_ref()).is_some_and(|c| !c.value.is_empty());
    let mut refused = vec![
        // It is killed and removed with the container.
        (!linux.cgroups_path.is_empty(), "the cgroup of a container is cricket's to choose"),
        (linux.namespaces.iter().any(|n| n.r#type.ends_with("mount")), "a container has a mount namespace of its own"),
    ];
    if matches!(handler.config().runtime_type.as_str(), "" | YOUKI_TYPE) {
        refused.extend([
            (rdt || rdt_class, "the built-in handler does not set RDT"),
            (linux.memory_policy.is_some(), "the built-in handler does not set memory policies"),
            (!linux.net_devices.is_empty(), "the built-in handler does not move network devices"),
        ]);
    }
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, why)) => Err(Error::precondition(format_args!("NRI: {why}"))),
        None => Ok(()),
    }
}

/// As [`adjusted`], with what the CDI directories hold now, where plugins ask for some of it. Blocks.
fn adjust_all(
    shared: &Shared,
    handler: &dyn Handler,
    spec: &mut Spec,
    adjust: &ContainerAdjustment,
    limits: v1::LinuxContainerResources,
) -> Result<v1::LinuxContainerResources> {
    let registry = shared.cdi.as_ref().filter(|_| !adjust.cdi_devices.is_empty());
    let found = registry.map(|registry| registry.read());
    let inject = found.as_ref().map(|found| {
        move |spec: &mut Spec, names: &[String]| {
            crate::cdi::edit(shared, handler, found, spec, names).map_err(|e| e.to_string())
        }
    });
    adjusted(spec, adjust, limits, inject.as_ref().map(|inject| inject as &Injector<'_>))
}

/// Adjusts the specification, and the limits as CRI has them.
fn adjusted(
    spec: &mut Spec,
    adjust: &ContainerAdjustment,
    limits: v1::LinuxContainerResources,
    cdi: Option<&Injector<'_>>,
) -> Result<v1::LinuxContainerResources> {
    cricket_nri::apply(spec, adjust, &Facts { mounts: &LivePaths, cdi }).map_err(|e| refused(&e))?;
    let asked: Option<&api::LinuxResources> = adjust.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let Some(asked) = asked else { return Ok(limits) };
    let mut asked = cricket_nri::cri_resources(asked);
    if asked.memory_limit_in_bytes != 0
        && asked.memory_swap_limit_in_bytes == 0
        && limits.memory_swap_limit_in_bytes != 0
    {
        // A limit alone is one of memory and swap together.
        asked.memory_swap_limit_in_bytes = asked.memory_limit_in_bytes;
    }
    Ok(cricket_oci::merge_update(&limits, &asked))
}

fn refused(error: &cricket_nri::Error) -> Error {
    Error::caused(ErrorKind::FailedPrecondition, "NRI", error)
}
