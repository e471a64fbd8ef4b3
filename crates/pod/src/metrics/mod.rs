//! ListPodSandboxMetrics: what ready pods and their running containers use, as metrics. Read when asked for.

mod descriptors;
mod figures;
mod processes;
mod sheet;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cricket_cgroup::{Cgroup, CgroupPath};
use cricket_cri_api::v1;

use self::sheet::Sheet;
use crate::error::{Error, Result};
use crate::netstat;
use crate::pods::Pods;
use crate::record::{ContainerRecord, ContainerState, SandboxState};
use crate::shared::Shared;
use crate::view::PodView;

/// Every metric that there is.
pub fn metric_descriptors() -> Vec<v1::MetricDescriptor> {
    descriptors::all()
}

impl Pods {
    /// The metrics of each ready pod; reading them blocks.
    pub fn metrics(&self) -> impl Iterator<Item = v1::PodSandboxMetrics> + Send + 'static {
        let shared = self.shared().clone();
        let ready = self.list().into_iter().filter(|pod| pod.record.sandbox.state == SandboxState::Ready);
        ready.map(move |pod| sandbox(&shared, &pod))
    }
}

fn sandbox(shared: &Shared, pod: &PodView) -> v1::PodSandboxMetrics {
    let sandbox = &pod.record.sandbox;
    let metadata = sandbox.config.0.metadata.clone().unwrap_or_default();
    let mut sheet = Sheet::new([
        metadata.name.clone(),
        metadata.namespace.clone(),
        String::new(),
        sandbox.id.to_string(),
        String::new(),
    ]);
    for counters in sandbox.netns.as_deref().and_then(netstat::counters).unwrap_or_default() {
        figures::network(&mut sheet, &counters);
    }
    let mut container_metrics = Vec::new();
    for record in pod.containers() {
        let ContainerState::Running(running) = &record.state else { continue };
        let mut sheet = Sheet::new([
            metadata.name.clone(),
            metadata.namespace.clone(),
            record.config.0.metadata.clone().unwrap_or_default().name,
            record.id.to_string(),
            record.image.user_specified.clone(),
        ]);
        sheet.add(&descriptors::LAST_SEEN, &[], seconds_now());
        sheet.add(&descriptors::START_TIME_SECONDS, &[], (running.started_at / 1_000_000_000).unsigned_abs());
        if let Err(error) = container(shared, pod, record, &mut sheet) {
            tracing::debug!(container = %record.id, %error, "not all metrics");
        }
        container_metrics.push(v1::ContainerMetrics { container_id: record.id.to_string(), metrics: sheet.done() });
    }
    v1::PodSandboxMetrics { pod_sandbox_id: sandbox.id.to_string(), metrics: sheet.done(), container_metrics }
}

fn container(shared: &Shared, pod: &PodView, record: &ContainerRecord, sheet: &mut Sheet) -> Result<()> {
    if let Some(live) = pod.live.get(&record.id) {
        figures::resources(sheet, &record.resources.0, &live.spec);
    }
    file_system(shared, record, sheet);
    let path = record.cgroup.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
    let group = Cgroup::open(&shared.hierarchies, &path);
    let details = group.details().map_err(|e| Error::from_kinded("statistics of its cgroup", &e))?;
    figures::cgroup(sheet, &details, device_name);
    let pids = group.procs().map_err(|e| Error::from_kinded("processes of its cgroup", &e))?;
    let (open, sockets) = processes::descriptors(&pids);
    sheet.add(&descriptors::PROCESSES, &[], pids.len() as u64);
    sheet.add(&descriptors::FILE_DESCRIPTORS, &[], open);
    sheet.add(&descriptors::SOCKETS, &[], sockets);
    Ok(())
}

/// The writable layer, and the file system that it is on.
fn file_system(shared: &Shared, record: &ContainerRecord, sheet: &mut Sheet) {
    // Its device is the container's root, as containerd names it.
    let root = &["/"];
    let Ok(usage) = shared.images.rootfs_usage(&record.id) else { return };
    sheet.add(&descriptors::FS_USAGE_BYTES, root, usage.used_bytes);
    if let Ok(whole) = rustix::fs::statvfs(&usage.mountpoint) {
        sheet.add(&descriptors::FS_LIMIT_BYTES, root, whole.f_blocks.saturating_mul(whole.f_frsize));
        sheet.add(&descriptors::FS_INODES_TOTAL, root, whole.f_files);
        sheet.add(&descriptors::FS_INODES_FREE, root, whole.f_ffree);
    }
}

/// `/dev/sda` for 8:0; the numbers for a device without a name.
fn device_name(major: u32, minor: u32) -> String {
    let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
    match link.file_name() {
        Some(name) => Path::new("/dev").join(name).to_string_lossy().into_owned(),
        None => format!("{major}:{minor}"),
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
