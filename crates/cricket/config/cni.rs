//! The table of the network plugins.

use std::path::PathBuf;

use super::error::Result;
use super::reader::Reader;
use super::versions::RUNTIME;

/// The table.
const TABLE: [&str; 3] = ["plugins", RUNTIME, "cni"];

/// Where networks and plugins are.
#[derive(Debug, Clone)]
pub(crate) struct Cni {
    /// Networks.
    pub(crate) conf_dir: PathBuf,
    /// Plugins; the first match wins.
    pub(crate) bin_dirs: Vec<PathBuf>,
    /// How many networks count; 0: all.
    pub(crate) max_conf_num: usize,
    /// A network that is rendered when the kubelet says the pods' addresses.
    pub(crate) conf_template: Option<PathBuf>,
}

/// Reads the table.
pub(super) fn read(r: &mut Reader) -> Result<Cni> {
    let cni = Cni {
        conf_dir: r.setting(&TABLE, "conf_dir", "/etc/cni/net.d".into())?,
        bin_dirs: r.setting(&TABLE, "bin_dirs", vec!["/opt/cni/bin".into()])?,
        max_conf_num: r.setting(&TABLE, "max_conf_num", 1)?,
        conf_template: r.optional(&TABLE, "conf_template")?.filter(|path: &PathBuf| !path.as_os_str().is_empty()),
    };
    if cni.bin_dirs.is_empty() {
        return Err(r.wrong(&TABLE, "bin_dirs", "want at least one directory"));
    }
    Ok(cni)
}
