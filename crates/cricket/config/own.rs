//! cricket's own table, `[plugins."io.cricket.v1"]`, and the flags that go before it.
//!
//! Directories, addresses and the default handler come only from here: containerd's own may be in use by containerd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cricket_runtime::handlers::CgroupDriver;

use super::duration::GoDuration;
use super::error::Result;
use super::reader::Reader;

/// The table.
pub(crate) const TABLE: [&str; 2] = ["plugins", "io.cricket.v1"];

/// Flags of `cricket serve` that are settings as well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// `--root`.
    pub(crate) root: Option<PathBuf>,
    /// `--state`.
    pub(crate) state: Option<PathBuf>,
    /// `--address`.
    pub(crate) address: Option<PathBuf>,
    /// `--log-level`.
    pub(crate) log_level: Option<String>,
    /// `--log-format`.
    pub(crate) log_format: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// cricket's own settings.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Durable files.
    pub(crate) root: PathBuf,
    /// Files that die with the boot.
    pub(crate) state: PathBuf,
    /// The CRI socket.
    pub(crate) address: PathBuf,
    /// The operator commands' socket.
    pub(crate) admin_address: PathBuf,
    /// Where cAdvisor's calls are answered; `None`: nowhere.
    pub(crate) cadvisor_socket: Option<PathBuf>,
    /// The handler of pods without a RuntimeClass; empty: the built-in one.
    pub(crate) default_handler: String,
    /// Where cricket-monitor, cricket-launch and cricket-exec are; `None`: beside cricket, else in /usr/libexec/cricket.
    pub(crate) helpers_dir: Option<PathBuf>,
    /// Who makes control groups.
    pub(crate) cgroup_driver: CgroupDriver,
    /// Where network namespaces are pinned; `None`: the usual place.
    pub(crate) netns_dir: Option<PathBuf>,
    /// What is logged: a level, or tracing's directives (`info,cricket_image=debug`).
    pub(crate) log_level: String,
    /// How.
    pub(crate) log_format: LogFormat,
    /// Threads that serve requests.
    pub(crate) workers: usize,
    /// Layers fetched and unpacked at once; `None`: containerd's setting, else one a core.
    pub(crate) max_parallel_layers: Option<usize>,
    /// How long a layer of an interrupted pull is kept.
    pub(crate) keep_unfinished: Duration,
    /// Docker's credentials files, the first that can be used counts; `None`: where the kubelet looks.
    pub(crate) credential_files: Option<Vec<PathBuf>>,
    /// How long one CNI plugin may run.
    pub(crate) cni_timeout: Duration,
}

/// Reads the table.
pub(super) fn read(reader: &mut Reader, flags: &Flags) -> Result<Own> {
    let r = reader;
    let root = r.flagged(&TABLE, "root", ("--root", flags.root.clone()), "/var/lib/cricket".into())?;
    let state: PathBuf = r.flagged(&TABLE, "state", ("--state", flags.state.clone()), "/run/cricket".into())?;
    let socket = state.join("cricket.sock");
    let address = r.flagged(&TABLE, "address", ("--address", flags.address.clone()), socket)?;
    let admin_address = r.setting(&TABLE, "admin_address", state.join("admin.sock"))?;
    for (key, path) in [("root", &root), ("state", &state), ("address", &address), ("admin_address", &admin_address)] {
        absolute(r, key, path)?;
    }
    let own = Own {
        address: plain(&address),
        root,
        state,
        admin_address,
        cadvisor_socket: r.setting(&TABLE, "cadvisor_socket", String::new()).map(optional)?,
        default_handler: r.setting(&TABLE, "default_handler", String::new())?,
        helpers_dir: r.optional(&TABLE, "helpers_dir")?,
        cgroup_driver: driver(r)?,
        netns_dir: r.optional(&TABLE, "netns_dir")?,
        log_level: log_level(r, flags)?,
        log_format: log_format(r, flags)?,
        workers: bounded(r, "worker_threads", default_workers(), 1..=64)?,
        max_parallel_layers: r.optional(&TABLE, "max_parallel_layers")?,
        keep_unfinished: r.setting(&TABLE, "keep_unfinished_layers", GoDuration(Duration::from_secs(3600)))?.0,
        credential_files: r.optional(&TABLE, "credential_files")?,
        cni_timeout: r.setting(&TABLE, "cni_plugin_timeout", GoDuration(Duration::from_secs(60)))?.0,
    };
    if own.max_parallel_layers == Some(0) {
        return Err(r.wrong(&TABLE, "max_parallel_layers", "want at least 1"));
    }
    if own.cni_timeout.is_zero() {
        return Err(r.wrong(&TABLE, "cni_plugin_timeout", "want more than nothing"));
    }
    for (key, path) in [("helpers_dir", &own.helpers_dir), ("netns_dir", &own.netns_dir)] {
        if let Some(path) = path {
            absolute(r, key, path)?;
        }
    }
    if let Some(path) = &own.cadvisor_socket {
        absolute(r, "cadvisor_socket", path)?;
    }
    for path in own.credential_files.iter().flatten() {
        absolute(r, "credential_files", path)?;
    }
    r.deny_rest(&TABLE)?;
    Ok(own)
}

/// A socket that may be switched off by an empty path.
fn optional(path: String) -> Option<PathBuf> {
    (!path.is_empty()).then(|| plain(Path::new(&path)))
}

/// Most of the work waits for plugins, disks and registries.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 4)
}

fn bounded(r: &mut Reader, key: &str, default: usize, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
    let value = r.setting(&TABLE, key, default)?;
    if !range.contains(&value) {
        return Err(r.wrong(&TABLE, key, format_args!("want {} to {}", range.start(), range.end())));
    }
    Ok(value)
}

fn absolute(r: &Reader, key: &str, path: &Path) -> Result<()> {
    if !plain(path).is_absolute() {
        return Err(r.wrong(&TABLE, key, format_args!("{:?} is no absolute path", path.display().to_string())));
    }
    Ok(())
}

/// crictl and kubelets write sockets as URLs.
fn plain(path: &Path) -> PathBuf {
    path.to_str().and_then(|p| p.strip_prefix("unix://")).map_or_else(|| path.to_owned(), PathBuf::from)
}

/// Who makes control groups; the kubelet asks for it with RuntimeConfig.
fn driver(r: &mut Reader) -> Result<CgroupDriver> {
    let driver = r.setting(&TABLE, "cgroup_driver", "cgroupfs".to_owned())?;
    match driver.as_str() {
        "cgroupfs" => Ok(CgroupDriver::Cgroupfs),
        "systemd" => Ok(CgroupDriver::Systemd),
        other => Err(r.wrong(&TABLE, "cgroup_driver", format_args!("{other:?}: want \"cgroupfs\" or \"systemd\""))),
    }
}

/// The flag, else the own key, else containerd's `[debug] level`.
fn log_level(r: &mut Reader, flags: &Flags) -> Result<String> {
    let debug: Option<String> = r.optional(&["debug"], "level")?;
    let default = debug.filter(|d| !d.is_empty()).unwrap_or_else(|| "info".to_owned());
    let level = r.flagged(&TABLE, "log_level", ("--log-level", flags.log_level.clone()), default)?;
    // containerd has two levels that tracing does not.
    let level = if ["fatal", "panic"].contains(&level.as_str()) { "error".to_owned() } else { level };
    match level.parse::<tracing_subscriber::filter::Targets>() {
        Ok(_) => Ok(level),
        Err(e) => Err(r.wrong(&TABLE, "log_level", e)),
    }
}

fn log_format(r: &mut Reader, flags: &Flags) -> Result<LogFormat> {
    let debug: Option<String> = r.optional(&["debug"], "format")?;
    let default = debug.filter(|d| !d.is_empty()).unwrap_or_else(|| "text".to_owned());
    let format = r.flagged(&TABLE, "log_format", ("--log-format", flags.log_format.clone()), default)?;
    match format.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(r.wrong(&TABLE, "log_format", format_args!("{other:?}: want \"text\" or \"json\""))),
    }
}
