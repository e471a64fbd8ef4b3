//! The configuration: containerd's `config.toml` with cricket's own table, its imports and the flags.
//!
//! ```text
//! file ─▶ imports ─▶ newest layout ─▶ merged document ─▶ Reader ─▶ Config { settings, where each came from,
//!                                                                           what nobody took: not supported }
//! ```
//!
//! Invariants: whatever is set is either used or listed; containerd's directories, addresses and default handler are
//! never used, so that reading a living containerd's file touches nothing of containerd's. NRI's socket is the plugins'
//! address rather than containerd's: it is used unless somebody listens on it.

mod cni;
pub(crate) mod crio;
mod duration;
mod error;
mod file;
mod handlers;
mod images;
mod metrics;
mod node;
mod nri;
mod own;
mod print;
mod reader;
mod runtime;
mod streaming;
#[cfg(test)]
mod tests;
mod verifiers;
mod versions;

use std::path::{Path, PathBuf};

use cricket_runtime::handlers::HandlerConfig;

pub(crate) use cni::Cni;
pub(crate) use error::Result;
pub(crate) use images::Images;
pub(crate) use node::Place;
pub(crate) use own::{Flags, LogFormat, Own};
pub(crate) use runtime::Runtime;

use reader::{Reader, Shown};

/// The file that is read when none is named; it may be missing.
pub(crate) const DEFAULT_FILE: &str = "/etc/cricket/config.toml";

/// The effective configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// cricket's own settings.
    pub(crate) own: Own,
    /// Settings of all pods.
    pub(crate) runtime: Runtime,
    /// Networks.
    pub(crate) cni: Cni,
    /// Images.
    pub(crate) images: Images,
    /// The streaming server.
    pub(crate) streaming: cricket_streaming::Config,
    /// Where the daemon's own metrics are served; `None`: nowhere.
    pub(crate) metrics: Option<std::net::SocketAddr>,
    /// Plugins of the Node Resource Interface.
    pub(crate) nri: cricket_nri::Config,
    /// Handlers.
    pub(crate) handlers: Vec<HandlerConfig>,
    /// Files that were read, in the order in which they count.
    pub(crate) files: Vec<PathBuf>,
    /// What is set and not used.
    pub(crate) unsupported: Vec<Unsupported>,
    shown: Vec<Shown>,
}

/// A key that is set and not used.
#[derive(Debug, Clone)]
pub(crate) struct Unsupported {
    /// Where.
    pub(crate) place: Place,
    /// The value, cut and without secrets.
    pub(crate) value: String,
    /// Why, where it is not merely unknown.
    pub(crate) reason: Option<&'static str>,
}

impl Config {
    /// Reads the configuration. `file` is `None` for the usual one, which may be missing.
    ///
    /// # Errors
    /// A file that cannot be read, no TOML, a value that makes no sense, an unknown key in cricket's own table.
    pub(crate) fn load(file: Option<&Path>, flags: &Flags) -> Result<Self> {
        let (table, files) = match file {
            Some(file) => file::load(file)?,
            None if Path::new(DEFAULT_FILE).exists() => file::load(Path::new(DEFAULT_FILE))?,
            None => Default::default(),
        };
        Self::read(table, files, flags)
    }

    /// Reads one file's text; what it imports is not read.
    pub(crate) fn of_text(text: &str) -> Result<Self> {
        Self::read(file::of_text(text)?, Vec::new(), &Flags::default())
    }

    fn read(table: node::Table, files: Vec<PathBuf>, flags: &Flags) -> Result<Self> {
        let mut reader = Reader::new(table);
        for key in ["disabled_plugins", "required_plugins"] {
            reader.fixed(&[], key, toml::Value::Array(Vec::new()));
        }
        let own = own::read(&mut reader, flags)?;
        let runtime = runtime::read(&mut reader)?;
        let cni = cni::read(&mut reader)?;
        let mut images = images::read(&mut reader)?;
        let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
        images.registry.credential_files = own
            .credential_files
            .clone()
            .unwrap_or_else(|| cricket_image::registry::kubelet_credential_files(home.as_deref()));
        let streaming = streaming::read(&mut reader)?;
        let metrics = metrics::read(&mut reader)?;
        let nri = nri::read(&mut reader)?;
        let handlers = handlers::read(&mut reader)?;
        let (shown, rest) = reader.finish();
        let unsupported = rest.into_iter().map(|(place, value)| Unsupported {
            value: print::cut(&place.key, &value),
            reason: reason(&place.key),
            place,
        });
        Ok(Self {
            own,
            runtime,
            cni,
            images,
            streaming,
            metrics,
            nri,
            handlers,
            files,
            unsupported: unsupported.collect(),
            shown,
        })
    }

    /// Where network namespaces are pinned.
    pub(crate) fn netns_dir(&self) -> PathBuf {
        match &self.own.netns_dir {
            Some(dir) => dir.clone(),
            None if self.runtime.netns_under_state => self.own.state.join("netns"),
            None => "/run/netns".into(),
        }
    }
}

/// What a person moving from containerd has to know about a key.
fn reason(key: &str) -> Option<&'static str> {
    match key {
        "root" | "state" => {
            Some("cricket's directories come from its flags or its own table, [plugins.\"io.cricket.v1\"]")
        }
        "grpc.address" | "plugins.\"io.containerd.server.v1.grpc\".address" => {
            Some("cricket's socket comes from --address or its own table, [plugins.\"io.cricket.v1\"]")
        }
        key if key.ends_with(".default_runtime_name") => {
            Some("cricket's default handler is default_handler in its own table, [plugins.\"io.cricket.v1\"]")
        }
        _ => None,
    }
}
