//! Who makes the control groups of this node's containers: cricket itself, or systemd for it. One driver a node.
//!
//! With systemd a container's cgroup is a scope below the kubelet's slice. systemd makes one only around a living process,
//! so a [`Holder`] is in it until the container's init is. Limits are written to the files with both drivers; systemd is
//! told of them as well, or its next `daemon-reload` would undo them. What it cannot be told of is written again whenever
//! it has written a unit's limits: after an update, after each reload, and when the daemon starts.

use std::os::fd::OwnedFd;
use std::time::Duration;

use cricket_cgroup::systemd::{DeviceRule, Scope, Systemd, slice_path, written_over};
use cricket_cgroup::{Cgroup, CgroupPath, Resources};
use cricket_cri_api::v1;
use cricket_oci::oci_spec::runtime::{LinuxDeviceType, Spec};
use cricket_process::{Child, Spawn};

use crate::error::{Error, Result};
use crate::pods::Pods;
use crate::shared::{Shared, blocking};

/// The node's cgroup driver.
#[derive(Debug, Default)]
pub enum Cgroups {
    /// Directories in the hierarchies.
    #[default]
    Cgroupfs,
    /// Scopes of systemd's, and what their names begin with, before the container's ID.
    Systemd(Systemd, &'static str),
}

/// How long a bus that went away is left alone, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Where pods are that name no parent.
const OWN: &str = "cricket";

impl Cgroups {
    /// Refuses a parent in which the driver can make nothing.
    ///
    /// # Errors
    /// When the systemd driver is given something else than a slice.
    pub(crate) fn check(&self, config: &v1::PodSandboxConfig) -> Result<()> {
        match (self, wanted(config)) {
            (Self::Systemd(..), parent) if !parent.is_empty() => {
                slice_path(parent).map(drop).map_err(|e| Error::from_kinded("linux.cgroup_parent", &e))
            }
            _ => Ok(()),
        }
    }

    /// The cgroup that a pod's containers are in, as a path in the hierarchies.
    pub(crate) fn parent(&self, config: &v1::PodSandboxConfig) -> String {
        match (self, wanted(config)) {
            (Self::Cgroupfs, "") => format!("/{OWN}"),
            (Self::Cgroupfs, parent) => format!("/{}", parent.trim_start_matches('/')),
            // Checked when the pod was made, perhaps by a daemon with the other driver.
            (Self::Systemd(..), parent) => {
                slice_path(parent).map_or_else(|_| format!("/{OWN}.slice"), |path| path.as_str().to_owned())
            }
        }
    }

    /// The cgroup of a container, or of a pod's init, in a pod's.
    pub(crate) fn leaf(&self, parent: &str, id: &str) -> String {
        match self {
            Self::Cgroupfs => format!("{parent}/{id}"),
            Self::Systemd(_, prefix) => format!("{parent}/{prefix}-{id}.scope"),
        }
    }

    /// systemd is the driver.
    pub fn is_systemd(&self) -> bool {
        matches!(self, Self::Systemd(..))
    }
}

fn wanted(config: &v1::PodSandboxConfig) -> &str {
    config.linux.as_ref().map_or("", |l| l.cgroup_parent.trim_end_matches('/'))
}

/// A cgroup that was made; with systemd it lasts as long as this, and then as long as its processes.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) cgroup: Cgroup,
    holder: Option<Holder>,
}

impl Made {
    /// Lets go: its processes keep it now, or it goes.
    pub(crate) async fn release(self) {
        if let Some(holder) = self.holder {
            holder.end().await;
        }
    }
}

/// Makes a cgroup and limits it. `rules` are of a container's specification; systemd gets its device rules.
pub(crate) async fn make(shared: &Shared, path: &str, limits: &Resources, rules: Option<&Spec>) -> Result<Made> {
    let path = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
    let holder = match &shared.cgroups {
        Cgroups::Cgroupfs => None,
        Cgroups::Systemd(systemd, _) => Some(scope(shared, systemd, &path, limits, rules).await?),
    };
    let (hierarchies, limits) = (shared.hierarchies.clone(), limits.clone());
    let made = blocking("make a cgroup", move || {
        let cgroup = Cgroup::create(&hierarchies, &path).map_err(|e| Error::from_kinded("make the cgroup", &e))?;
        cgroup.apply(&limits).map_err(|e| Error::from_kinded("limit the cgroup", &e))?;
        Ok(cgroup)
    });
    match made.await {
        Ok(cgroup) => Ok(Made { cgroup, holder }),
        Err(error) => {
            if let Some(holder) = holder {
                holder.end().await;
            }
            Err(error)
        }
    }
}

/// Tells systemd of changed limits, which are in the files already. `whole` is what holds after the change.
pub(crate) async fn tell(shared: &Shared, path: &str, limits: Resources, whole: &Resources) -> Result<()> {
    let Cgroups::Systemd(systemd, _) = &shared.cgroups else { return Ok(()) };
    let unit = path.rsplit('/').next().unwrap_or_default();
    let failed = |e| Error::internal(format_args!("change {unit}"), &e);
    systemd.set(unit, &for_systemd(limits, whole)).await.map_err(failed)?;
    if written_over(whole).is_some() {
        systemd.settled(unit).await.map_err(failed)?;
    }
    restore(shared, path, whole).await
}

/// Writes those of a container's limits again that systemd has written over.
pub(crate) async fn restore(shared: &Shared, path: &str, whole: &Resources) -> Result<()> {
    let Some(limits) = written_over(whole).filter(|_| shared.cgroups.is_systemd()) else { return Ok(()) };
    let path = path.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
    let hierarchies = shared.hierarchies.clone();
    blocking("write limits again", move || {
        let cgroup = Cgroup::open(&hierarchies, &path);
        cgroup.apply(&limits).map_err(|e| Error::from_kinded("write limits again", &e))
    })
    .await
}

/// For as long as the daemon runs: after each of systemd's reloads, and now, since it may have missed some.
pub(crate) fn follow_reloads(pods: Pods) {
    if !pods.shared().cgroups.is_systemd() {
        return;
    }
    tokio::spawn(async move {
        let mut pause = PAUSE;
        loop {
            let Cgroups::Systemd(systemd, _) = &pods.shared().cgroups else { return };
            match systemd.reloads().await {
                Ok(mut reloads) => {
                    pause = PAUSE;
                    pods.restore_limits();
                    while reloads.next().await.is_some() {
                        pods.restore_limits();
                    }
                }
                Err(e) => tracing::warn!(error = %e, again = ?pause, "systemd's reloads go unnoticed"),
            }
            // Only while there is no bus.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    });
}

/// A change as systemd has to be told of it, which knows no parts: a quota is a share of its period, swap is what is more
/// than memory. `whole` is what holds after the change.
fn for_systemd(change: Resources, whole: &Resources) -> Resources {
    let mut told = change;
    if told.cpu_quota.is_some() || told.cpu_period.is_some() {
        (told.cpu_quota, told.cpu_period) = (whole.cpu_quota, whole.cpu_period);
    }
    if told.memory_swap.is_some() {
        (told.memory_limit, told.memory_swap) = (whole.memory_limit, whole.memory_swap);
    }
    told
}

async fn scope(
    shared: &Shared,
    systemd: &Systemd,
    path: &CgroupPath,
    limits: &Resources,
    rules: Option<&Spec>,
) -> Result<Holder> {
    let slice = path.as_str().rsplit('/').nth(1).unwrap_or_default();
    let holder = Holder::start(shared)?;
    let devices = rules.map(device_rules);
    let wanted = Scope {
        name: path.name(),
        slice,
        description: &format!("cricket container {}", path.name()),
        pid: holder.child.pid.unsigned_abs(),
        resources: limits,
        devices: devices.as_deref(),
    };
    match systemd.start_scope(&wanted).await {
        Ok(()) => Ok(holder),
        Err(error) => {
            holder.end().await;
            Err(Error::internal(format_args!("make {}", path.name()), &error))
        }
    }
}

/// What the specification allows.
fn device_rules(spec: &Spec) -> Vec<DeviceRule> {
    let resources = spec.linux().as_ref().and_then(|l| l.resources().as_ref());
    let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let allowed = rules.iter().filter(|rule| rule.allow()).map(|rule| DeviceRule {
        kind: match rule.typ() {
            Some(LinuxDeviceType::B) => 'b',
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => 'c',
            _ => 'a',
        },
        major: number(rule.major()),
        minor: number(rule.minor()),
        access: rule.access().clone().unwrap_or_else(|| "rwm".to_owned()),
    });
    allowed.collect()
}

/// A process that keeps a scope alive. It also ends with the daemon.
#[derive(Debug)]
struct Holder {
    child: Child,
    /// Its standard input is the other end.
    life: OwnedFd,
}

impl Holder {
    fn start(shared: &Shared) -> Result<Self> {
        let failed = |e: &dyn std::error::Error| Error::internal("start a process for a scope", e);
        let (input, life) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed(&e))?;
        let spawn = Spawn::new(&shared.helpers.exec, ["cricket-hold"]).fd(0, &input);
        Ok(Self { child: spawn.spawn().map_err(|e| failed(&e))?, life })
    }

    /// Ends and reaps it.
    async fn end(self) {
        let Self { mut child, life } = self;
        drop(life);
        let reaped = blocking("wait for a scope's first process", move || {
            child.wait().map_err(|e| Error::internal("wait for a scope's first process", &e))
        });
        if let Err(error) = reaped.await {
            tracing::warn!(error = %error, "a process of a scope was not reaped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_of_what_belongs_together() {
        let whole = Resources {
            cpu_shares: Some(5),
            cpu_quota: Some(30_000),
            cpu_period: Some(50_000),
            memory_limit: Some(1 << 20),
            memory_swap: Some(3 << 20),
            ..Default::default()
        };
        let quota = Resources { cpu_quota: Some(30_000), ..Default::default() };
        let both = Resources { cpu_period: Some(50_000), ..quota.clone() };
        assert_eq!(for_systemd(quota, &whole), both);
        let period = Resources { cpu_period: Some(50_000), ..Default::default() };
        assert_eq!(for_systemd(period, &whole), both);
        let swap = Resources { memory_swap: Some(3 << 20), ..Default::default() };
        assert_eq!(for_systemd(swap.clone(), &whole), Resources { memory_limit: Some(1 << 20), ..swap });
        let shares = Resources { cpu_shares: Some(5), ..Default::default() };
        assert_eq!(for_systemd(shares.clone(), &whole), shares);
    }
}
