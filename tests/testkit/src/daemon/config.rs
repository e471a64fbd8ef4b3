//! Which daemon to start, its configuration file and its command line.

use super::Place;
use crate::cni::{Network, PLUGINS};
use crate::{host, mirrors};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Which daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// cricket: `CRICKET_BIN`, else beside this program in the target directory.
    #[default]
    Cricket,
    /// The binary at this path, with cricket's flags.
    At(PathBuf),
    /// containerd with runc, both from `hack/tools/build`.
    Containerd,
}

/// What a daemon is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which daemon.
    pub program: Program,
    /// URL of a registry that public registries' names lead to.
    pub registry: Option<String>,
    /// TOML keys for the table of the runtime part, such as
    /// `max_container_log_line_size = 100`.
    pub runtime_keys: String,
    /// TOML keys for the table of NRI, whose socket and plugins are the daemon's own.
    pub nri_keys: String,
    /// TOML keys for cricket's own table.
    pub own_keys: String,
    /// Answer cAdvisor, at [`super::Daemon::containerd_socket`].
    pub cadvisor: bool,
    /// TOML tables at the end of the file.
    pub tables: String,
    /// Pin network namespaces in `/run/netns`, as in production, instead of in
    /// the state directory, where they can be told from those of other tests.
    pub shared_netns: bool,
    /// Environment of the daemon, besides this process' own.
    pub env: Vec<(String, String)>,
    /// Arguments at the end of the command line.
    pub arguments: Vec<String>,
}

/// Writes the configuration file, in containerd's format version 3, and the mirrors.
pub(super) fn write(options: &Options, place: &Place, network: &Network) -> Result<()> {
    std::fs::create_dir_all(place.plugins())?;
    let mirrors = place.home.join("certs.d");
    std::fs::create_dir_all(&mirrors)?;
    if let Some(url) = &options.registry {
        mirrors::write(&mirrors, url)?;
    }
    let mut text = format!(
        "version = 3\n\n\
         [plugins.'io.containerd.cri.v1.images'.registry]\n\
         config_path = {:?}\n\n\
         [plugins.'io.containerd.cri.v1.runtime']\n\
         netns_mounts_under_state_dir = {}\n\
         {}\n{}\n\n\
         [plugins.'io.containerd.cri.v1.runtime'.cni]\n\
         bin_dirs = [{:?}, {PLUGINS:?}]\n\
         conf_dir = {:?}\n\n",
        mirrors.display().to_string(),
        !options.shared_netns,
        // cricket clamps OOM scores to what its process may set, containerd has to be told.
        if options.program == Program::Containerd { "restrict_oom_score_adj = true" } else { "" },
        options.runtime_keys,
        place.plugins().display().to_string(),
        network.conf_dir().display().to_string(),
    );
    if options.program == Program::Containerd {
        text.push_str(&containerd()?);
    } else {
        let mut keys = options.own_keys.clone();
        if host::systemd_driver() {
            keys.push_str("\ncgroup_driver = 'systemd'\n");
        }
        if options.cadvisor {
            keys.push_str(&format!("\ncadvisor_socket = {:?}\n", place.containerd().display().to_string()));
        }
        if !keys.is_empty() {
            text.push_str(&format!("[plugins.'io.cricket.v1']\n{keys}\n\n"));
        }
        text.push_str(&format!(
            "[plugins.'io.containerd.nri.v1.nri']\n\
             socket_path = {:?}\n\
             plugin_path = {:?}\n\
             plugin_config_path = {:?}\n\
             {}\n\n",
            place.nri().join("nri.sock").display().to_string(),
            place.nri().join("plugins").display().to_string(),
            place.nri().join("conf.d").display().to_string(),
            options.nri_keys,
        ));
    }
    text.push_str(&options.tables);
    Ok(std::fs::write(place.config(), text)?)
}

/// What containerd must be told besides: runc by path, a pause image that the
/// mirrors have, no fixed socket for NRI.
fn containerd() -> Result<String> {
    let runc = host::tool_dir("runc")?.join("runc");
    Ok(format!(
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
         runtime_type = 'io.containerd.runc.v2'\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n\
         BinaryName = {:?}\n\n\
         [plugins.'io.containerd.cri.v1.images'.pinned_images]\n\
         sandbox = 'registry.k8s.io/pause:3.10.2'\n\n\
         [plugins.'io.containerd.nri.v1.nri']\n\
         disable = true\n\n",
        runc.display().to_string()
    ))
}

/// The command line; containerd and cricket share these flags.
pub(super) fn command(options: &Options, place: &Place) -> Result<Command> {
    let mut command = match &options.program {
        Program::Containerd => {
            let dir = host::tool_dir("containerd")?;
            let mut command = host::bound(dir.join("containerd"));
            // It looks for its shim there.
            let path = std::env::var_os("PATH").unwrap_or_default();
            let dirs = std::iter::once(dir).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(dirs)?);
            command
        }
        program => {
            let binary = match program {
                Program::At(path) => path.clone(),
                _ => cricket()?,
            };
            let mut command = host::bound(binary);
            command.arg("serve");
            command
        }
    };
    command.arg("--config").arg(place.config());
    command.arg("--root").arg(&place.root);
    command.arg("--state").arg(place.state());
    command.arg("--address").arg(place.socket());
    command.args(&options.arguments);
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    // A service manager that this process may have is not the daemon's.
    command.env_remove("NOTIFY_SOCKET");
    Ok(command)
}

fn cricket() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CRICKET_BIN") {
        return Ok(path.into());
    }
    let me = std::env::current_exe()?;
    // Tests are in a directory `deps` below the one with the programs.
    let mut dirs = me.ancestors().skip(1).take(2).map(|dir| dir.join("cricket"));
    let Some(path) = dirs.find(|path| path.is_file()) else {
        bail!("cricket is not beside {}: build it first, or set CRICKET_BIN", me.display());
    };
    path.canonicalize().with_context(|| path.display().to_string())
}
