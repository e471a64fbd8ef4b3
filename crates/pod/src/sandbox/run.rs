//! RunPodSandbox: from a configuration to a driver that owns a ready pod, or to nothing.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cricket_cni::{Attachment, Intent};
use cricket_cri_api::v1;
use cricket_model::{ErrorKind, SandboxId};
use cricket_process::fault::point;
use cricket_runtime::monitor::{MonitorClient, MonitorEvent};
use cricket_store::{Batch, Journal};
use tokio::sync::{mpsc, watch};

use super::{Made, files, host_network, namespaces, network, teardown};
use crate::driver::{Backlog, Driver, Flights, Held, PodHandle};
use crate::error::{Error, Result};
use crate::joins::Joins;
use crate::record::{PodRecord, SandboxRecord, SandboxState, Stored};
use crate::shared::{Shared, blocking, now};
use crate::stage;
use crate::timeline::Timeline;
use crate::view::PodView;

/// Commands that wait for a driver at most; more senders wait.
const QUEUE: usize = 64;

/// Makes a pod. Whatever fails, nothing is left that is not recorded for the reconciler.
pub(crate) async fn run(shared: &Arc<Shared>, config: v1::PodSandboxConfig, handler: String) -> Result<Driver> {
    let known = shared.handlers.get(&handler).map_err(|e| Error::from_kinded("runtime handler", &e))?;
    {
        // Looks for a binary, which may be on any file system.
        let (known, name) = (known.clone(), handler.clone());
        let check = move || known.check().map_err(|e| Error::from_kinded(format_args!("runtime handler {name:?}"), &e));
        blocking("look at the runtime handler", check).await?;
    }
    namespaces::supported(shared, known.as_ref(), &config)?;
    shared.cgroups.check(&config)?;
    let sysctls = sysctls(shared, &config)?;
    let id = SandboxId::generate();
    let netns = (!host_network(&config)).then(|| shared.config.netns_dir.join(format!("cni-{}", uuid::Uuid::new_v4())));
    if netns.is_some() {
        shared.cni.ready_for(&handler).map_err(|e| Error::new(ErrorKind::Unavailable, e))?;
    }
    let selinux = shared.selinux.of_pod(&id, &config)?;
    let record = PodRecord {
        sandbox: SandboxRecord {
            id,
            config: Stored(config),
            handler,
            created_at: now(),
            boot_id: shared.host.boot_id.clone(),
            netns,
            network: None,
            init: None,
            selinux,
            state: SandboxState::Creating,
            updated: None,
            timeline: Timeline::default(),
        },
        containers: Vec::new(),
    };
    let journal = {
        let (shared, record) = (shared.clone(), record.clone());
        blocking("record the pod", move || {
            begin(&shared, &record).inspect_err(|_| {
                // Without an intent there is nothing else to take back.
                shared.selinux.release(&record.sandbox.id);
                let _ = teardown::remove_dir(&shared.pod_dir(&record.sandbox.id));
            })
        })
        .await?
    };
    point("sandbox.recorded");
    match make(shared, record.clone(), journal, sysctls).await {
        Ok(driver) => Ok(driver),
        Err(e) => {
            tracing::warn!(pod = %record.sandbox.id, error = %e, "sandbox not made, rolling back");
            if let Err(left) = teardown::discard(shared, &record, None).await {
                tracing::warn!(pod = %record.sandbox.id, error = %left, "rollback not complete, to be gone on with");
                teardown::discard_later(shared, record);
            }
            Err(e)
        }
    }
}

/// The pod's sysctls; defaults that the configuration switches off are left out unless the pod asks for them.
fn sysctls(shared: &Shared, config: &v1::PodSandboxConfig) -> Result<Vec<(String, String)>> {
    let mut list = cricket_oci::sandbox_sysctls(config).map_err(|e| Error::from_kinded("sysctls", &e))?;
    let asked = |name: &str| config.linux.as_ref().is_some_and(|l| l.sysctls.contains_key(name));
    list.retain(|(name, _)| match name.as_str() {
        "net.ipv4.ip_unprivileged_port_start" => shared.config.enable_unprivileged_ports || asked(name),
        "net.ipv4.ping_group_range" => shared.config.enable_unprivileged_icmp || asked(name),
        _ => true,
    });
    Ok(list)
}

/// The intent: the pod's directory and the first line of its journal.
fn begin(shared: &Shared, record: &PodRecord) -> Result<Journal<PodRecord>> {
    let dir = shared.pod_dir(&record.sandbox.id);
    crate::bundle::folder(&dir.join("c")).map_err(|e| Error::internal(format_args!("make {}", dir.display()), &e))?;
    let (mut journal, _) = open_journal(&dir)?;
    journal.append(record).map_err(|e| Error::from_kinded("write the pod's journal", &e))?;
    Ok(journal)
}

/// Opens a pod's journal.
pub(crate) fn open_journal(dir: &Path) -> Result<(Journal<PodRecord>, Vec<PodRecord>)> {
    Journal::open(dir.join("journal"))
        .map_err(|e| Error::from_kinded(format_args!("open the journal in {}", dir.display()), &e))
}

async fn make(
    shared: &Arc<Shared>,
    mut record: PodRecord,
    journal: Journal<PodRecord>,
    sysctls: Vec<(String, String)>,
) -> Result<Driver> {
    let id = record.sandbox.id.clone();
    let config = record.sandbox.config.0.clone();
    let hostname = files::hostname(&config, &shared.host.name);
    let (dir, netns) = (shared.pod_dir(&id), record.sandbox.netns.clone());
    let made = {
        let (config, netns) = (config.clone(), netns.clone());
        blocking("make namespaces", move || namespaces::make(&config, netns.as_deref(), &hostname, &sysctls)).await?
    };
    point("sandbox.netns");
    let intent = intent(shared, &record.sandbox)?;
    let (tx, events) = mpsc::unbounded_channel();
    let files = {
        let (dir, config, host) = (dir.clone(), config.clone(), shared.host.name.clone());
        blocking("write the sandbox's files", move || files::write(&dir, &config, &host))
    };
    let commit = async {
        let _at = stage::enter("write the pod's record to the disk");
        let mut batch = Batch::new();
        batch.put(id.as_str(), &record).map_err(|e| Error::from_kinded("encode the pod's record", &e))?;
        if let Some(intent) = &intent {
            intent.record_in(&mut batch).map_err(|e| Error::from_kinded("encode the pod's network", &e))?;
        }
        shared.store.commit(batch).await.map_err(|e| Error::from_kinded("commit the pod's record", &e))
    };
    let (attached, held, (), ()) =
        tokio::try_join!(attach(shared, intent.clone()), monitor(shared, &id, &dir, made, tx), files, commit)?;
    point("sandbox.attached");
    record.sandbox.network = attached;
    let (monitor, held) = held;
    let mut driver = assemble(shared, record, journal, events);
    driver.monitor = Some(monitor);
    driver.held = held;
    driver.start_init().await?;
    let at = stage::enter("ask plugins");
    shared.nri.run_sandbox(&driver.record.sandbox).await?;
    drop(at);
    driver.record.sandbox.state = SandboxState::Ready;
    driver.record.sandbox.timeline.add(stage::taken());
    driver.save().inspect_err(|_| shared.nri.undo_sandbox(&driver.record.sandbox))?;
    point("sandbox.ready");
    tracing::info!(pod = %id, name = config.metadata.as_ref().map_or("", |m| m.name.as_str()), "sandbox ready");
    Ok(driver)
}

/// Which networks the pod is going to be attached to; none with the host's.
fn intent(shared: &Shared, sandbox: &SandboxRecord) -> Result<Option<Intent>> {
    let Some(netns) = &sandbox.netns else { return Ok(None) };
    let pod = network::pod_network(&sandbox.id, netns, &sandbox.handler, &sandbox.config.0)?;
    shared.cni.intend(pod).map(Some).map_err(|e| Error::from_kinded("set up the pod's network", &e))
}

async fn attach(shared: &Shared, intent: Option<Intent>) -> Result<Option<Attachment>> {
    let Some(intent) = intent else { return Ok(None) };
    let _at = stage::enter("add the pod to its network");
    let attachment =
        shared.cni.add_intended(intent).await.map_err(|e| Error::from_kinded("set up the pod's network", &e))?;
    if attachment.ips.is_empty() {
        return Err(Error::new(ErrorKind::Internal, "the network plugins gave the pod no address"));
    }
    Ok(Some(attachment))
}

async fn monitor(
    shared: &Shared,
    id: &SandboxId,
    dir: &Path,
    made: Made,
    events: mpsc::UnboundedSender<MonitorEvent>,
) -> Result<(MonitorClient, Vec<Held>)> {
    let _at = stage::enter("start the pod's monitor");
    let client = MonitorClient::spawn(&shared.helpers, dir, id, events)
        .await
        .map_err(|e| Error::internal("start the pod's monitor", &e))?;
    point("sandbox.monitor");
    let held = hold(&client, made.into_fds()).await?;
    Ok((client, held))
}

/// Gives the monitor the namespaces to hold and keeps duplicates.
pub(crate) async fn hold(client: &MonitorClient, fds: Vec<(String, Arc<OwnedFd>)>) -> Result<Vec<Held>> {
    let mut given = Vec::new();
    for (name, fd) in &fds {
        given.push((name.clone(), fd.try_clone().map_err(|e| Error::internal("duplicate a namespace", &e))?));
    }
    let paths: HashMap<String, PathBuf> = client
        .hold(given)
        .await
        .map_err(|e| Error::internal("give the monitor the namespaces", &e))?
        .into_iter()
        .collect();
    let held = fds.into_iter().map(|(name, fd)| Held { path: paths.get(&name).cloned().unwrap_or_default(), name, fd });
    Ok(held.collect())
}

/// A driver without a monitor.
pub(crate) fn assemble(
    shared: &Arc<Shared>,
    record: PodRecord,
    journal: Journal<PodRecord>,
    monitor_events: mpsc::UnboundedReceiver<MonitorEvent>,
) -> Driver {
    let (sender, commands) = mpsc::channel(QUEUE);
    let view = PodView { record: Arc::new(record.clone()), monitor: None, live: Arc::default() };
    let handle = PodHandle {
        id: record.sandbox.id.clone(),
        view: ArcSwap::from_pointee(view),
        published: watch::Sender::new(()),
        commands: sender,
        creates: Joins::default(),
    };
    Driver {
        shared: shared.clone(),
        handle: Arc::new(handle),
        record,
        journal,
        journalled: 0,
        monitor: None,
        monitor_events,
        held: Vec::new(),
        live: HashMap::new(),
        stops: HashMap::new(),
        flights: Flights::default(),
        ending: None,
        backlog: Backlog::default(),
        farewell: None,
        unheard: HashSet::new(),
        watches: HashMap::new(),
        commands,
    }
}
