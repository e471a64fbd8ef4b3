//! After a start of the daemon: the records meet what is there.
//!
//! ```text
//! record of another boot ─▶ containers EXITED (255, Unknown), sandbox NOTREADY, CNI DEL from the cached result
//! record of this boot    ─▶ monitor answers: states from its list · gone: pidfds, exit records, a new monitor
//! Creating               ─▶ rolled back      Removing ─▶ gone on with
//! folder without record, attachment without pod, container's files without container ─▶ removed (`sweep`)
//! ```
//!
//! What is taken back is on no list: it is waited for a moment, so that most of it is gone when the first request comes,
//! and then goes beside them. Small files of the state directory are read where they are: nobody is served yet.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use cricket_model::{ContainerId, SandboxId};
use cricket_oci::oci_spec::runtime::Spec;
use cricket_process::Pidfd;
use cricket_runtime::monitor::{ContainerPhase, ExitRecord, MonitorClient, MonitorError, kill_stuck};
use tokio::sync::mpsc;

use crate::driver::{Backlog, Driver, Held, Left, surviving, unknown};
use crate::error::{Error, Result};
use crate::pods::Pods;
use crate::record::{ContainerState, PodRecord, Poststop, Running, SandboxState};
use crate::sandbox::{INIT, USER, assemble, discard, discard_later, hold, open_journal};
use crate::shared::{Shared, blocking, exit_record};
use crate::view::Live;

/// Pods that are looked at at once.
const AT_ONCE: usize = 16;

/// What is left of containers and pods mostly goes within this. What does not is waited for with requests served.
const SETTLE: Duration = Duration::from_secs(1);

impl Pods {
    /// Takes up every pod that the records know. A pod that cannot be taken up is logged and left as it is: one bad
    /// record never keeps the others from their kubelet.
    ///
    /// # Errors
    /// When the records cannot be read at all.
    pub async fn restore(shared: Arc<Shared>) -> Result<Self> {
        let pods = Self::new(shared.clone());
        crate::sandbox::make_dir(&shared.config.state.join("pods"), 0o711)?;
        let state = &shared.config.state;
        // A directory that the configuration names is the runtime's own affair.
        for dir in shared.handlers.iter().map(|h| h.state_dir(state)).filter(|dir| dir.starts_with(state)) {
            crate::sandbox::make_dir(&dir, 0o700)?;
        }
        crate::sandbox::container::prepare(&shared);
        let reader = shared.clone();
        let records = blocking("read the pods' records", move || load(&reader)).await?;
        records.iter().for_each(|record| shared.selinux.reserve(record));
        // Before anything new can be among them.
        let orphans = crate::sweep::orphans(&shared, &records);
        let known: HashSet<SandboxId> = records.iter().map(|r| r.sandbox.id.clone()).collect();
        let (half, whole): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| is_half(&shared, record));
        let back = shared.clone();
        let mut taking_back = tokio::spawn(each(half, move |record| take_back(back.clone(), record)));
        let (taken, common) = (pods.clone(), shared.clone());
        each(whole, move |record| take_up(taken.clone(), common.clone(), record)).await;
        // Dropping the handle leaves the task alone.
        let _ = tokio::time::timeout(SETTLE, &mut taking_back).await;
        tokio::spawn(async move { crate::sweep::sweep(&shared, known, orphans).await });
        Ok(pods)
    }
}

/// A pod of this boot that never was, or is not to be any more.
fn is_half(shared: &Shared, record: &PodRecord) -> bool {
    let half = matches!(record.sandbox.state, SandboxState::Creating | SandboxState::Removing);
    half && record.sandbox.boot_id == shared.host.boot_id
}

/// Does this with each pod, some at once.
async fn each<F: Future<Output = ()> + Send + 'static>(records: Vec<PodRecord>, work: impl Fn(PodRecord) -> F) {
    let mut tasks = tokio::task::JoinSet::new();
    for record in records {
        if tasks.len() >= AT_ONCE {
            tasks.join_next().await;
        }
        tasks.spawn(work(record));
    }
    while tasks.join_next().await.is_some() {}
}

/// The newest record of every pod: of its journal where that is of this boot, else of the store.
///
/// A pod of this boot has a line in its journal from before its first effect until after its last one is undone. One
/// that the store still knows and that has none was removed; the store did not hear of it any more.
fn load(shared: &Shared) -> Result<Vec<PodRecord>> {
    let stored = shared.store.list::<PodRecord>().map_err(|e| Error::from_kinded("read the pods' records", &e))?;
    let mut records: HashMap<SandboxId, PodRecord> =
        stored.into_iter().map(|(_, record)| (record.sandbox.id.clone(), record)).collect();
    let of_this_boot = |r: &PodRecord| r.sandbox.boot_id == shared.host.boot_id;
    let mut removed: HashSet<SandboxId> =
        records.values().filter(|r| of_this_boot(r)).map(|r| r.sandbox.id.clone()).collect();
    let dir = shared.config.state.join("pods");
    let failed = |e: std::io::Error| Error::internal(format_args!("list {}", dir.display()), &e);
    for entry in std::fs::read_dir(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<SandboxId>().ok()) else { continue };
        match open_journal(&entry.path()) {
            Ok((_, lines)) => {
                let newest = lines.into_iter().next_back().filter(|r| of_this_boot(r) && r.sandbox.id == id);
                if let Some(record) = newest {
                    removed.remove(&id);
                    records.insert(id, record);
                }
            }
            Err(e) => {
                tracing::warn!(pod = %id, error = %e, "journal not read");
                removed.remove(&id);
            }
        }
    }
    for record in records.values_mut().filter(|r| removed.contains(&r.sandbox.id)) {
        record.sandbox.state = SandboxState::Removing;
    }
    Ok(records.into_values().collect())
}

async fn take_up(pods: Pods, shared: Arc<Shared>, record: PodRecord) {
    let id = record.sandbox.id.clone();
    let taken = match record.sandbox.boot_id == shared.host.boot_id {
        true => this_boot(&pods, &shared, record).await,
        false => other_boot(&pods, &shared, record).await,
    };
    if let Err(e) = taken {
        tracing::error!(pod = %id, error = %e, "pod not taken up");
    }
}

async fn this_boot(pods: &Pods, shared: &Arc<Shared>, record: PodRecord) -> Result<()> {
    let id = record.sandbox.id.clone();
    let (tx, events) = mpsc::unbounded_channel();
    let (journal, _) = open_journal(&shared.pod_dir(&id))?;
    let mut driver = assemble(shared, record, journal, events);
    match MonitorClient::connect(&shared.pod_dir(&id), &id, tx).await {
        Ok(client) => {
            if let Err(e) = reconnect(&mut driver, client.clone()).await {
                tracing::warn!(pod = %id, error = %e, "the pod's monitor does not answer");
                end_monitor(&id, client.pidfd()).await;
                without_monitor(&mut driver).await;
            }
        }
        Err(e) => {
            tracing::info!(pod = %id, error = %e, "no monitor to connect to");
            if let MonitorError::Stuck { pidfd, .. } = &e {
                end_monitor(&id, pidfd.as_fd()).await;
            }
            without_monitor(&mut driver).await;
        }
    }
    driver.remove_unlisted();
    driver.begin_poststops();
    driver.settle(SETTLE).await;
    // Nobody knows whether the callers of these starts heard of them.
    driver.unheard = driver.running().into_iter().collect();
    check_sandbox(&mut driver);
    driver.save_or_warn();
    adopt(pods, driver);
    Ok(())
}

/// Two monitors never serve one pod: the one that does not answer ends before another one is started.
async fn end_monitor(id: &SandboxId, monitor: BorrowedFd<'_>) {
    if let Err(e) = kill_stuck(monitor).await {
        tracing::error!(pod = %id, error = %e, "the pod's monitor could not be ended");
    }
}

/// Lists the pod and takes its names.
fn adopt(pods: &Pods, driver: Driver) {
    pods.reserve(&driver.record.sandbox);
    for container in driver.record.containers.iter().filter(|c| c.listed()) {
        let key = crate::record::ContainerRecord::key(&container.config.0);
        driver.handle.creates.restore(&key, container.id.as_str(), container.config.0.clone());
    }
    pods.adopt(driver);
}

/// The monitor lives: it says what became of the containers.
async fn reconnect(driver: &mut Driver, client: MonitorClient) -> Result<()> {
    let ask = |e| Error::internal("ask the monitor", &e);
    let held = client.held().await.map_err(ask)?;
    driver.held = held.into_iter().map(|h| Held { name: h.name, fd: Arc::new(h.fd), path: h.path }).collect();
    let list: HashMap<String, ContainerPhase> =
        client.list().await.map_err(ask)?.into_iter().map(|c| (c.container, c.phase)).collect();
    let init_lives = match list.get(INIT) {
        Some(phase) => matches!(phase, ContainerPhase::Running { .. }),
        // A monitor that replaced another one was not given it.
        None => driver.record.sandbox.init.is_some_and(|(pid, start)| surviving(pid, start).is_some()),
    };
    if !init_lives {
        driver.record.sandbox.init = None;
    }
    let mut strange = Vec::new();
    for id in driver.running() {
        match list.get(id.as_str()) {
            Some(ContainerPhase::Exited(facts)) => driver.exited(&id, facts),
            Some(ContainerPhase::Running { pid }) => {
                if let Err(e) = running(driver, &client, &id, *pid).await {
                    tracing::warn!(container = %id, error = %e, "the monitor does not say what it has of it");
                    from_record(driver, &id).await;
                }
            }
            Some(ContainerPhase::Making) => {
                // Its start was never acknowledged: it is ended.
                match client.abandon(id.as_str()).await {
                    Ok(()) => driver.end_what_is_left(&id, Left::CutOff),
                    // It runs by now, or the monitor is an older one: killed, it ends as any, and an event says so.
                    Err(_) => driver.kill(&id),
                }
            }
            None if driver.container(&id)?.state == ContainerState::Starting => {
                // The daemon ended before it asked for the launch.
                driver.end_what_is_left(&id, Left::NeverStarted);
            }
            None => {
                from_record(driver, &id).await;
                strange.push(id);
            }
        }
    }
    take_over(driver, &client, &strange).await?;
    driver.monitor = Some(client);
    Ok(())
}

/// A monitor that replaced another one and was given only a part of it, since the daemon ended meanwhile, gets the rest.
async fn take_over(driver: &mut Driver, client: &MonitorClient, containers: &[ContainerId]) -> Result<()> {
    for id in containers.iter().filter(|id| driver.live.contains_key(*id)).cloned().collect::<Vec<_>>() {
        driver.hand_over(client, &id).await?;
    }
    if driver.held.is_empty() {
        namespaces_of(driver);
        let found = driver.held.drain(..).map(|h| (h.name, h.fd)).collect();
        driver.held = hold(client, found).await?;
    }
    Ok(())
}

async fn running(driver: &mut Driver, client: &MonitorClient, id: &ContainerId, pid: u32) -> Result<()> {
    let handles = client.handles(id.as_str()).await.map_err(|e| Error::internal("ask the monitor", &e))?;
    let Some(pidfd) = handles.pidfd else {
        from_record(driver, id).await;
        return Ok(());
    };
    let pidfd = Pidfd::from_fd(pidfd).map_err(|e| Error::internal("the container's pidfd", &e))?;
    let spec = spec_of(driver, id);
    driver.take_live(id, Live::new(pid, pidfd, handles.stdio.into(), spec));
    let start_ticks = cricket_process::ProcessIdentity::of(pid.cast_signed()).map_or(0, |i| i.start_time);
    let started_at = handles.created_at;
    if driver.container(id)?.state != ContainerState::Starting {
        return Ok(());
    }
    driver.edit(id, |c| c.state = ContainerState::Running(Running { pid, start_ticks, started_at }))
}

/// The specification that the container runs with. One that cannot be read costs its execs (there is no process to
/// take after), not the container.
fn spec_of(driver: &Driver, id: &ContainerId) -> Arc<Spec> {
    let spec = crate::bundle::read(&driver.shared.bundle(&driver.record.sandbox.id, id)).unwrap_or_else(|e| {
        tracing::warn!(container = %id, error = %e, "no exec in it any more");
        let mut empty = Spec::default();
        empty.set_process(None);
        empty
    });
    Arc::new(spec)
}

/// Takes a half-made or half-removed pod back, now or as soon as it can be.
async fn take_back(shared: Arc<Shared>, record: PodRecord) {
    if let Err(e) = discard(&shared, &record, None).await {
        tracing::warn!(pod = %record.sandbox.id, error = %e, "pod not taken back yet");
        discard_later(&shared, record);
    }
}

/// The monitor died too: what still lives gets another one, what ended is told by the record it wrote, or unknown.
async fn without_monitor(driver: &mut Driver) {
    let ids = driver.running();
    for id in &ids {
        from_record(driver, id).await;
    }
    let alive = !driver.live.is_empty() || driver.record.sandbox.init.is_some_and(|(p, t)| surviving(p, t).is_some());
    if driver.record.sandbox.state == SandboxState::Ready || alive {
        namespaces_of(driver);
        if let Err(e) = driver.replace_monitor().await {
            tracing::warn!(pod = %driver.record.sandbox.id, error = %e, "no monitor for the pod");
        }
    }
}

/// What the exit record says; without one, whether the process lives.
async fn from_record(driver: &mut Driver, id: &ContainerId) {
    let bundle = driver.shared.bundle(&driver.record.sandbox.id, id);
    if let Ok(Some(facts)) = ExitRecord::read(&exit_record(&bundle)) {
        driver.exited(id, &facts);
        return;
    }
    let state = driver.container(id).map(|c| c.state.clone());
    if let Ok(ContainerState::Running(r)) = state
        && let Some(pidfd) = surviving(r.pid, r.start_ticks)
    {
        let spec = spec_of(driver, id);
        driver.take_live(id, Live::new(r.pid, pidfd, Vec::new().into(), spec));
        return;
    }
    driver.end_what_is_left(id, Left::Lost);
}

/// Namespaces that nobody holds any more are found through a container that still runs in them.
fn namespaces_of(driver: &mut Driver) {
    let Some(pid) = driver.live.values().map(|l| l.pid).next() else { return };
    for name in ["ipc", "uts", USER] {
        let path = std::path::PathBuf::from(format!("/proc/{pid}/ns/{name}"));
        let own = std::path::PathBuf::from(format!("/proc/self/ns/{name}"));
        let same = std::fs::read_link(&path).ok() == std::fs::read_link(own).ok();
        if let (false, Ok(file)) = (same, std::fs::File::open(&path)) {
            driver.held.push(Held { name: name.into(), fd: Arc::new(file.into()), path });
        }
    }
}

/// A READY sandbox whose namespaces are not there is not ready.
fn check_sandbox(driver: &mut Driver) {
    let sandbox = &driver.record.sandbox;
    if sandbox.state != SandboxState::Ready {
        return;
    }
    let config = &sandbox.config.0;
    let netns_gone =
        sandbox.netns.as_ref().is_some_and(|n| !cricket_process::mounts::is_mount_point(n).unwrap_or(false));
    let ipc_gone = !crate::sandbox::host_ipc(config) && !driver.held.iter().any(|h| h.name == "ipc");
    let own_user = crate::sandbox::user_namespace(config).is_ok_and(|maps| maps.is_some());
    let user_gone = own_user && !driver.held.iter().any(|h| h.name == USER);
    let needs_init = crate::sandbox::shared_pid(config) || driver.needs_sandbox_container();
    let init_gone = needs_init && sandbox.init.is_none_or(|(p, t)| surviving(p, t).is_none());
    if netns_gone || ipc_gone || user_gone || init_gone || driver.monitor.is_none() {
        tracing::warn!(pod = %sandbox.id, netns_gone, ipc_gone, user_gone, init_gone, "sandbox did not survive");
        driver.record.sandbox.state = SandboxState::NotReady;
    }
}

/// A reboot: nothing of the pod runs; its PIDs and mounts mean nothing now.
async fn other_boot(pods: &Pods, shared: &Arc<Shared>, mut record: PodRecord) -> Result<()> {
    let id = record.sandbox.id.clone();
    // One that says Creating may have been acknowledged: what followed was not synced before the power went. It is listed.
    if record.sandbox.state == SandboxState::Removing {
        discard_later(shared, record);
        return Ok(());
    }
    let sandbox = &mut record.sandbox;
    sandbox.init = None;
    sandbox.boot_id.clone_from(&shared.host.boot_id);
    sandbox.state = SandboxState::NotReady;
    for container in &mut record.containers {
        let container = Arc::make_mut(container);
        // What they would clean up is gone with that boot.
        container.poststop = Poststop::Absent;
        let started_at = match &container.state {
            ContainerState::Running(running) => running.started_at,
            ContainerState::Starting => 0,
            _ => continue,
        };
        container.state = ContainerState::Exited(crate::record::Exited { started_at, ..unknown() });
    }
    crate::bundle::folder(&shared.pod_dir(&id).join("c")).map_err(|e| Error::internal("make the pod's folder", &e))?;
    let (journal, _) = open_journal(&shared.pod_dir(&id))?;
    let (_, events) = mpsc::unbounded_channel();
    let mut driver = assemble(shared, record, journal, events);
    // Plugins may need what only starts with the pods: nobody waits for them.
    driver.backlog = Backlog::network_left();
    driver.save_or_warn();
    driver.remove_unlisted();
    adopt(pods, driver);
    Ok(())
}
