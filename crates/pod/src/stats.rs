//! What containers and pods use. Figures are read when asked for; nothing is sampled in the background.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cricket_cgroup::{Cgroup, CgroupPath, CpuStats, MemoryStats, PsiStats, Stats, StatsReader, SwapStats};
use cricket_cri_api::v1;
use cricket_model::{ContainerId, ErrorKind};

use crate::error::{Error, Result};
use crate::netstat;
use crate::pods::Pods;
use crate::record::{ContainerRecord, ContainerState, SandboxRecord};
use crate::shared::{Shared, blocking, now};
use crate::view::{PodView, by_prefix};

/// Open readers and the last figures, by cgroup path.
#[derive(Default)]
pub struct Readers {
    open: Mutex<HashMap<String, Arc<Reader>>>,
}

struct Reader {
    files: StatsReader,
    /// When the last answer was read, by a clock that nobody sets, and its CPU time in nanoseconds: for the rate.
    last: Mutex<Option<(Instant, u64)>>,
}

/// With less between two answers a rate would be noise: there is none.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

impl Readers {
    fn get(&self, shared: &Shared, path: &str) -> Result<Arc<Reader>> {
        if let Some(reader) = self.lock().get(path) {
            return Ok(reader.clone());
        }
        let cgroup = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
        let files = StatsReader::open(&Cgroup::open(&shared.hierarchies, &cgroup))
            .map_err(|e| Error::from_kinded(format_args!("statistics of cgroup {path}"), &e))?;
        let reader = Arc::new(Reader { files, last: Mutex::default() });
        self.lock().insert(path.to_owned(), reader.clone());
        Ok(reader)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Reader>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the readers of cgroups that are gone.
    pub(crate) fn forget(&self, path: &str) {
        self.lock().remove(path);
    }

    /// The figures and the rate in nanocores since the last time somebody asked.
    fn read(&self, shared: &Shared, path: &str) -> Result<(Stats, Option<u64>)> {
        let reader = self.get(shared, path)?;
        let stats = reader.files.read().map_err(|e| {
            self.forget(path);
            Error::from_kinded(format_args!("statistics of cgroup {path}"), &e)
        })?;
        let (now, used) = (Instant::now(), stats.cpu.map_or(0, |c| c.usage_core_nano_seconds));
        let last = reader.last.lock().unwrap_or_else(PoisonError::into_inner).replace((now, used));
        let rate = last.and_then(|(at, before)| {
            let elapsed = now.saturating_duration_since(at);
            let rate = u128::from(used.saturating_sub(before)) * 1_000_000_000 / elapsed.as_nanos().max(1);
            (elapsed >= MIN_INTERVAL).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
        });
        Ok((stats, rate))
    }
}

impl Pods {
    /// ContainerStats.
    pub async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats> {
        let (pod, record) = self.container(id)?;
        let shared = self.shared().clone();
        blocking("read statistics", move || Ok(container(&shared, &pod.record.sandbox, &record))).await
    }

    /// ListContainerStats: running containers only, as the kubelet wants them. Each is read, which blocks, when it is
    /// taken.
    ///
    /// # Errors
    /// When an ID of the filter is a prefix of several.
    pub fn containers_stats(
        &self,
        filter: &v1::ContainerStatsFilter,
    ) -> Result<impl Iterator<Item = v1::ContainerStats> + Send + 'static> {
        let mut wanted = Vec::new();
        let pods = self.list();
        for pod in &pods {
            if !pod.record.sandbox.id.as_str().starts_with(&filter.pod_sandbox_id) {
                continue;
            }
            let fits = |c: &&Arc<ContainerRecord>| {
                c.id.as_str().starts_with(&filter.id) && has_labels(&c.config.0.labels, &filter.label_selector)
            };
            wanted.extend(pod.containers().filter(running).filter(fits).map(|c| (pod.clone(), c.clone())));
        }
        one_at_most("container", &filter.id, wanted.iter().map(|(_, c)| c.id.as_str()))?;
        let pods = pods.iter().map(|pod| pod.record.sandbox.id.as_str());
        one_at_most("pod sandbox", &filter.pod_sandbox_id, pods)?;
        let shared = self.shared().clone();
        Ok(wanted.into_iter().map(move |(pod, c)| container(&shared, &pod.record.sandbox, &c)))
    }

    /// PodSandboxStats.
    pub async fn sandbox_stats(&self, id: &str) -> Result<v1::PodSandboxStats> {
        let pod = self.pod(id)?;
        let shared = self.shared().clone();
        blocking("read statistics", move || Ok(sandbox(&shared, &pod))).await
    }

    /// ListPodSandboxStats. Each is read, which blocks, when it is taken.
    ///
    /// # Errors
    /// When the ID of the filter is a prefix of several.
    pub fn sandboxes_stats(
        &self,
        filter: &v1::PodSandboxStatsFilter,
    ) -> Result<impl Iterator<Item = v1::PodSandboxStats> + Send + 'static> {
        let fits = |pod: &Arc<PodView>| {
            let sandbox = &pod.record.sandbox;
            sandbox.id.as_str().starts_with(&filter.id) && has_labels(&sandbox.config.0.labels, &filter.label_selector)
        };
        let pods: Vec<_> = self.list().into_iter().filter(fits).collect();
        one_at_most("pod sandbox", &filter.id, pods.iter().map(|pod| pod.record.sandbox.id.as_str()))?;
        let shared = self.shared().clone();
        Ok(pods.into_iter().map(move |pod| sandbox(&shared, &pod)))
    }
}

/// Refuses an ID prefix of a filter that more than one of these begins with; none at all is no error in a list.
fn one_at_most<'a>(what: &str, prefix: &str, ids: impl Iterator<Item = &'a str>) -> Result<()> {
    if prefix.is_empty() {
        return Ok(());
    }
    match by_prefix(what, prefix, ids.map(|id| ((), id.to_owned()))) {
        Err(e) if cricket_model::Kinded::kind(&e) != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn running(c: &&Arc<ContainerRecord>) -> bool {
    matches!(c.state, ContainerState::Running(_))
}

fn has_labels(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
}

fn container(shared: &Shared, sandbox: &SandboxRecord, record: &ContainerRecord) -> v1::ContainerStats {
    let config = &record.config.0;
    let attributes = v1::ContainerAttributes {
        id: record.id.to_string(),
        metadata: config.metadata.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
    };
    let mut answer = v1::ContainerStats {
        attributes: Some(attributes),
        writable_layer: writable(shared, &record.id),
        ..Default::default()
    };
    if matches!(record.state, ContainerState::Running(_))
        && let Some((stats, rate)) = figures(shared, sandbox, record)
    {
        answer.cpu = stats.cpu.map(|c| cpu(&c, stats.timestamp, rate));
        answer.memory = stats.memory.map(|m| memory(&m, stats.timestamp));
        answer.swap = stats.swap.map(|s| swap(&s, stats.timestamp));
        answer.io = io(&stats);
    }
    answer
}

/// What a container has used, and the rate of its processors where it is known. What a runtime runs in the pod's first
/// container is not in the container's own control group, which would say zero: it is asked itself.
fn figures(shared: &Shared, sandbox: &SandboxRecord, record: &ContainerRecord) -> Option<(Stats, Option<u64>)> {
    let handler = shared.handlers.get(&sandbox.handler).ok().filter(|handler| handler.needs_sandbox_container());
    match (shared.readers.read(shared, &record.cgroup), handler) {
        (Ok((stats, _)), Some(handler)) if stats.process_count.unwrap_or_default() == 0 => {
            let bundle = shared.bundle(&sandbox.id, &record.id);
            handler.usage(record.id.as_str(), &bundle).map(|stats| (stats, None))
        }
        (Ok(found), _) => Some(found),
        (Err(e), _) => {
            tracing::debug!(container = %record.id, error = %e, "no statistics");
            None
        }
    }
}

fn writable(shared: &Shared, id: &ContainerId) -> Option<v1::FilesystemUsage> {
    let usage = shared.images.rootfs_usage(id).ok()?;
    Some(v1::FilesystemUsage {
        timestamp: now(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: usage.mountpoint.to_string_lossy().into_owned() }),
        used_bytes: value(usage.used_bytes),
        inodes_used: value(usage.inodes_used),
    })
}

fn sandbox(shared: &Shared, pod: &PodView) -> v1::PodSandboxStats {
    let sandbox = &pod.record.sandbox;
    let config = &sandbox.config.0;
    let parent = shared.cgroups.parent(config);
    let (stats, rate) = shared.readers.read(shared, &parent).unwrap_or_default();
    let containers: Vec<_> = pod.containers().filter(running).map(|c| container(shared, sandbox, c)).collect();
    let at = now();
    let linux = v1::LinuxPodSandboxStats {
        cpu: stats.cpu.map(|c| cpu(&c, stats.timestamp, rate)),
        memory: stats.memory.map(|m| memory(&m, stats.timestamp)),
        network: sandbox.netns.as_ref().and_then(|netns| netstat::usage(netns, at)),
        process: stats.process_count.map(|n| v1::ProcessUsage { timestamp: at, process_count: value(n) }),
        containers,
        io: io(&stats),
    };
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: sandbox.id.to_string(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        linux: Some(linux),
        windows: None,
    }
}

pub(crate) fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(c: &CpuStats, timestamp: i64, rate: Option<u64>) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp,
        usage_core_nano_seconds: value(c.usage_core_nano_seconds),
        usage_nano_cores: rate.and_then(value),
        psi: c.psi.as_ref().map(psi),
    }
}

fn memory(m: &MemoryStats, timestamp: i64) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp,
        working_set_bytes: value(m.working_set_bytes),
        available_bytes: m.available_bytes.and_then(value),
        usage_bytes: value(m.usage_bytes),
        rss_bytes: value(m.rss_bytes),
        page_faults: value(m.page_faults),
        major_page_faults: value(m.major_page_faults),
        psi: m.psi.as_ref().map(psi),
    }
}

fn swap(s: &SwapStats, timestamp: i64) -> v1::SwapUsage {
    v1::SwapUsage {
        timestamp,
        swap_available_bytes: s.swap_available_bytes.and_then(value),
        swap_usage_bytes: value(s.swap_usage_bytes),
    }
}

fn io(stats: &Stats) -> Option<v1::IoUsage> {
    stats.io_psi.as_ref().map(|p| v1::IoUsage { timestamp: stats.timestamp, psi: Some(psi(p)) })
}

fn psi(p: &PsiStats) -> v1::PsiStats {
    let data =
        |d: &cricket_cgroup::PsiData| v1::PsiData { total: d.total, avg10: d.avg10, avg60: d.avg60, avg300: d.avg300 };
    v1::PsiStats { full: Some(data(&p.full)), some: Some(data(&p.some)) }
}
