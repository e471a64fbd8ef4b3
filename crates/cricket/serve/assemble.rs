//! From the configuration to everything that the services stand on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cricket_cdi::Registry;
use cricket_cgroup::systemd::Systemd;
use cricket_cgroup::{Hierarchies, Version};
use cricket_cni::{Cni, CniConfig, HandlerNetworks};
use cricket_image::{ImageStore, ImageStoreConfig};
use cricket_pod::{Cgroups, Host, Hugetlb, Nri, PodsConfig, Selinux, Shared};
use cricket_runtime::handlers::{CgroupDriver, Handlers};
use cricket_runtime::monitor::Helpers;
use cricket_server::{CniTemplate, ServiceConfig};
use cricket_store::Store;
use tokio::sync::broadcast;

use super::Fallible;
use crate::config::{Config, Runtime};
use crate::layout;

/// Events that a slow subscriber may be behind before it loses some.
const EVENTS: usize = 1024;
/// Where packages put the helpers.
const LIBEXEC: &str = "/usr/libexec/cricket";
/// The network that `conf_template` becomes: containerd's name, so that a node that moves has it once.
const RENDERED: &str = "10-containerd-net.conflist";

/// What becomes of limits of huge pages, on a host that can or cannot set them.
fn hugetlb(host: Hugetlb, config: &Runtime) -> Hugetlb {
    match host {
        _ if config.disable_hugetlb => Hugetlb::Ignored,
        Hugetlb::Missing if config.tolerate_missing_hugetlb => Hugetlb::Ignored,
        other => other,
    }
}

/// Opens everything.
pub(super) async fn shared(config: &Config) -> Fallible<(Shared, ServiceConfig)> {
    let started = SystemTime::now();
    let hierarchies = Arc::new(Hierarchies::detect()?);
    let mut host = Host::probe(&hierarchies)?;
    host.facts.may_lower_oom_score &= !config.runtime.restrict_oom_score_adj;
    host.facts.hugetlb = hugetlb(host.facts.hugetlb, &config.runtime);
    host.facts.apparmor_enabled &= !config.runtime.disable_apparmor;
    if host.facts.apparmor_enabled {
        host.facts.apparmor_default = default_profile().await;
    }
    let store = Store::open(layout::records(&config.own.root))?;
    let images = ImageStore::open(image_config(config), store.clone()).await?;
    let user_namespaces = images.try_mapping().await.map_err(|e| e.to_string());
    if let Err(reason) = &user_namespaces {
        tracing::warn!(reason, "no pods with user namespaces (hostUsers: false)");
    }
    let cni = Cni::open_with(cni_config(config), store.clone())?;
    let handlers = handlers(config)?;
    for (name, reason) in handlers.refused() {
        tracing::warn!(handler = name, reason, "runtime handler cannot be used");
    }
    let dir = helpers_dir(config);
    let helpers = tokio::task::spawn_blocking(move || Helpers::load(&dir)).await??;
    let cgroups = cgroups(config, &hierarchies)?;
    let shared = Shared {
        config: pods_config(config),
        images,
        cni,
        handlers,
        helpers: Arc::new(helpers),
        hierarchies,
        cgroups,
        nri: Nri::new(config.nri.clone(), env!("CARGO_PKG_VERSION")),
        cdi: config.runtime.cdi_dirs.clone().map(Registry::new),
        store,
        selinux: selinux(config.runtime.selinux)?,
        host,
        user_namespaces,
        readers: Default::default(),
        started,
        events: broadcast::Sender::new(EVENTS),
    };
    Ok((shared, service_config(config)))
}

/// Labels for pods, where they are configured.
///
/// # Errors
/// A host with SELinux whose policy says nothing of containers.
fn selinux(range: Option<u16>) -> Fallible<Selinux> {
    match range {
        Some(range) if Selinux::on_this_host() => Ok(Selinux::open(range)?),
        Some(_) => {
            tracing::warn!("enable_selinux is set, and this host has no SELinux: pods get no labels");
            Ok(Selinux::default())
        }
        None => Ok(Selinux::default()),
    }
}

fn cgroups(config: &Config, hierarchies: &Hierarchies) -> Fallible<Cgroups> {
    // Agents that read cAdvisor's metrics of containerd nodes know scopes by this name.
    let scopes = if config.own.cadvisor_socket.is_some() { "cri-containerd" } else { "cricket" };
    match config.own.cgroup_driver {
        CgroupDriver::Cgroupfs => Ok(Cgroups::Cgroupfs),
        CgroupDriver::Systemd if hierarchies.version() == Version::V2 => {
            Ok(Cgroups::Systemd(Systemd::default(), scopes))
        }
        CgroupDriver::Systemd => Err("cgroup_driver = \"systemd\" needs cgroup v2, this host has v1".into()),
    }
}

/// Loads the profile of containers that name none.
async fn default_profile() -> Option<String> {
    let loaded = tokio::task::spawn_blocking(cricket_pod::apparmor::load_default).await;
    match loaded.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())) {
        Ok(()) => Some(cricket_pod::apparmor::DEFAULT_PROFILE.to_owned()),
        Err(reason) => {
            tracing::warn!(reason, "no default AppArmor profile: containers that name none are not confined by one");
            None
        }
    }
}

/// The node's handlers.
///
/// # Errors
/// A handler that fits neither the node nor this version.
pub(crate) fn handlers(config: &Config) -> Fallible<Handlers> {
    Ok(Handlers::from_config(&config.handlers, &config.own.default_handler, config.own.cgroup_driver)?)
}

/// How the image store is opened.
pub(crate) fn image_config(config: &Config) -> ImageStoreConfig {
    let own = &config.own;
    let mut images = ImageStoreConfig::new(&own.root, &own.state);
    images.registry = config.images.registry.clone();
    images.pinned = config.images.pinned.clone();
    images.verifiers = config.images.verifiers.clone();
    images.keep_unfinished = own.keep_unfinished;
    if let Some(layers) = own.max_parallel_layers.or(config.images.max_concurrent_downloads) {
        images.max_parallel_layers = layers;
    }
    images
}

/// How the network plugins are run.
pub(crate) fn cni_config(config: &Config) -> CniConfig {
    let own = config.handlers.iter().filter(|h| !h.cni_conf_dir.is_empty()).map(|h| {
        let max_conf_num = if h.cni_max_conf_num == 0 { config.cni.max_conf_num } else { h.cni_max_conf_num };
        (h.name.clone(), HandlerNetworks { conf_dir: (&h.cni_conf_dir).into(), max_conf_num })
    });
    CniConfig {
        handlers: own.collect(),
        conf_dir: config.cni.conf_dir.clone(),
        bin_dirs: config.cni.bin_dirs.clone(),
        max_conf_num: config.cni.max_conf_num,
        cache_dir: layout::networks(&config.own.root),
        timeout: config.own.cni_timeout,
    }
}

/// Where the helpers are: as configured, else beside this program, else where packages put them.
pub(crate) fn helpers_dir(config: &Config) -> PathBuf {
    let beside = || {
        let me = std::env::current_exe().ok()?.canonicalize().ok()?;
        let dir = me.parent()?;
        dir.join("cricket-monitor").exists().then(|| dir.to_owned())
    };
    config.own.helpers_dir.clone().or_else(beside).unwrap_or_else(|| Path::new(LIBEXEC).to_owned())
}

fn pods_config(config: &Config) -> PodsConfig {
    let (own, runtime) = (&config.own, &config.runtime);
    PodsConfig {
        root: own.root.clone(),
        state: own.state.clone(),
        netns_dir: config.netns_dir(),
        unset_seccomp_profile: runtime.unset_seccomp_profile.clone(),
        enable_unprivileged_ports: runtime.unprivileged_ports,
        enable_unprivileged_icmp: runtime.unprivileged_icmp,
        max_log_line: runtime.max_log_line,
        device_ownership_from_security_context: runtime.device_ownership,
        sandbox_process: own.cadvisor_socket.is_some(),
    }
}

fn service_config(config: &Config) -> ServiceConfig {
    let template = config.cni.conf_template.as_ref();
    ServiceConfig {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: config.to_json(),
        cni_template: template
            .map(|template| CniTemplate { template: template.clone(), target: config.cni.conf_dir.join(RENDERED) }),
    }
}
