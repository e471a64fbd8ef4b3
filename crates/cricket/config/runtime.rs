//! The runtime's table of CRI: what concerns all pods.

use std::path::PathBuf;

use cricket_cdi::DEFAULT_DIRS;
use cricket_pod::MAX_CATEGORIES;

use super::error::Result;
use super::reader::Reader;
use super::versions::RUNTIME;

/// The table.
const TABLE: [&str; 2] = ["plugins", RUNTIME];

/// Smallest and largest log line: one page at least; readers hold a whole line.
const LOG_LINE: std::ops::RangeInclusive<i64> = 64..=128 << 10;
/// The CRI's own figure.
const DEFAULT_LOG_LINE: i64 = 16 << 10;

/// Settings of all pods.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    /// Longest log line, in bytes, before it is split.
    pub(crate) max_log_line: u32,
    /// Profile of containers that ask for none.
    pub(crate) unset_seccomp_profile: String,
    /// Devices belong to the user of the container.
    pub(crate) device_ownership: bool,
    /// Ports below 1024 are for everybody.
    pub(crate) unprivileged_ports: bool,
    /// ping is for everybody.
    pub(crate) unprivileged_icmp: bool,
    /// OOM scores below the daemon's are raised to it even where it may set them.
    pub(crate) restrict_oom_score_adj: bool,
    /// Limits of huge pages are not set, though the controller is there.
    pub(crate) disable_hugetlb: bool,
    /// Limits of huge pages pass without the controller that sets them.
    pub(crate) tolerate_missing_hugetlb: bool,
    /// No AppArmor, though the kernel has it.
    pub(crate) disable_apparmor: bool,
    /// SELinux labels, with categories of pods below this; `None`: no labels.
    pub(crate) selinux: Option<u16>,
    /// Directories of CDI specifications, the one that takes precedence last; `None`: no CDI.
    pub(crate) cdi_dirs: Option<Vec<PathBuf>>,
    /// Network namespaces are pinned below the state directory.
    pub(crate) netns_under_state: bool,
}

/// Reads the table.
pub(super) fn read(r: &mut Reader) -> Result<Runtime> {
    let line: i64 = r.setting(&TABLE, "max_container_log_line_size", DEFAULT_LOG_LINE)?;
    let max_log_line = match line {
        // containerd: no limit. A line has to fit into memory all the same.
        ..=0 => *LOG_LINE.end(),
        line if LOG_LINE.contains(&line) => line,
        line => {
            let reason = format!("{line}: want {} to {} bytes", LOG_LINE.start(), LOG_LINE.end());
            return Err(r.wrong(&TABLE, "max_container_log_line_size", reason));
        }
    };
    let runtime = Runtime {
        max_log_line: u32::try_from(max_log_line).unwrap_or(DEFAULT_LOG_LINE as u32),
        unset_seccomp_profile: r.setting(&TABLE, "unset_seccomp_profile", String::new())?,
        device_ownership: r.setting(&TABLE, "device_ownership_from_security_context", false)?,
        unprivileged_ports: r.setting(&TABLE, "enable_unprivileged_ports", true)?,
        unprivileged_icmp: r.setting(&TABLE, "enable_unprivileged_icmp", true)?,
        restrict_oom_score_adj: r.setting(&TABLE, "restrict_oom_score_adj", false)?,
        // containerd's default is to set none. Kubernetes says that each container has its own limits of huge pages.
        disable_hugetlb: r.setting(&TABLE, "disable_hugetlb_controller", false)?,
        tolerate_missing_hugetlb: r.setting(&TABLE, "tolerate_missing_hugetlb_controller", true)?,
        disable_apparmor: r.setting(&TABLE, "disable_apparmor", false)?,
        selinux: selinux(r)?,
        cdi_dirs: cdi(r)?,
        netns_under_state: r.setting(&TABLE, "netns_mounts_under_state_dir", false)?,
    };
    profile(r, &runtime.unset_seccomp_profile)?;
    // What a dump of containerd's defaults says and cricket does as well.
    for key in ["disable_proc_mount", "ignore_image_defined_volumes"] {
        r.fixed(&TABLE, key, false);
    }
    r.fixed(&TABLE, "drain_exec_sync_io_timeout", "0s");
    r.fixed(&["plugins", RUNTIME, "cni"], "setup_serially", false);
    r.fixed(&["plugins", RUNTIME, "cni"], "ip_pref", "");
    r.fixed(&["plugins", RUNTIME, "cni"], "use_internal_loopback", true);
    Ok(runtime)
}

/// SELinux: containerd's keys.
fn selinux(r: &mut Reader) -> Result<Option<u16>> {
    let enabled: bool = r.setting(&TABLE, "enable_selinux", false)?;
    let range: i64 = r.setting(&TABLE, "selinux_category_range", i64::from(MAX_CATEGORIES))?;
    match range {
        // containerd: all of them.
        0 => Ok(enabled.then_some(MAX_CATEGORIES)),
        range if (2..=i64::from(MAX_CATEGORIES)).contains(&range) => Ok(enabled.then_some(range as u16)),
        range => {
            let reason = format!("{range}: want 2 to {MAX_CATEGORIES}, or 0 for all");
            Err(r.wrong(&TABLE, "selinux_category_range", reason))
        }
    }
}

/// The Container Device Interface: containerd's keys.
fn cdi(r: &mut Reader) -> Result<Option<Vec<PathBuf>>> {
    let enabled: bool = r.setting(&TABLE, "enable_cdi", true)?;
    let default = DEFAULT_DIRS.map(PathBuf::from).to_vec();
    let dirs: Vec<PathBuf> = r.setting(&TABLE, "cdi_spec_dirs", default)?;
    match dirs.iter().find(|dir| !dir.is_absolute()) {
        Some(dir) => Err(r.wrong(&TABLE, "cdi_spec_dirs", format!("{} is not absolute", dir.display()))),
        None => Ok(enabled.then_some(dirs)),
    }
}

fn profile(r: &Reader, profile: &str) -> Result<()> {
    let known = ["", "unconfined", "runtime/default", "docker/default"].contains(&profile);
    if known || profile.strip_prefix("localhost/").is_some_and(|p| !p.is_empty()) {
        return Ok(());
    }
    let reason = format!("{profile:?}: want \"\", \"unconfined\", \"runtime/default\" or \"localhost/PATH\"");
    Err(r.wrong(&TABLE, "unset_seccomp_profile", reason))
}
