//! The table of the Node Resource Interface.

use std::path::PathBuf;
use std::time::Duration;

use cricket_nri::{Config, Validator};

use super::duration::GoDuration;
use super::error::Result;
use super::reader::Reader;

/// The table.
const TABLE: [&str; 2] = ["plugins", "io.containerd.nri.v1.nri"];
/// The built-in validator's.
const VALIDATOR: [&str; 3] = ["plugins", "io.containerd.nri.v1.nri", "default_validator"];

/// Reads the table. As in containerd, an empty path and a timeout of zero stand for the default.
pub(super) fn read(r: &mut Reader) -> Result<Config> {
    let default = Config::default();
    let path = |r: &mut Reader, key, default: &PathBuf| -> Result<PathBuf> {
        let set: PathBuf = r.setting(&TABLE, key, default.clone())?;
        Ok(if set.as_os_str().is_empty() { default.clone() } else { set })
    };
    let socket_path = path(r, "socket_path", &default.socket_path)?;
    let plugin_path = path(r, "plugin_path", &default.plugin_path)?;
    let plugin_config_path = path(r, "plugin_config_path", &default.plugin_config_path)?;
    let timeout = |r: &mut Reader, key, default: Duration| -> Result<Duration> {
        let set = r.setting(&TABLE, key, GoDuration(default))?.0;
        Ok(if set.is_zero() { default } else { set })
    };
    Ok(Config {
        disable: r.setting(&TABLE, "disable", default.disable)?,
        socket_path,
        plugin_path,
        plugin_config_path,
        plugin_registration_timeout: timeout(r, "plugin_registration_timeout", default.plugin_registration_timeout)?,
        plugin_request_timeout: timeout(r, "plugin_request_timeout", default.plugin_request_timeout)?,
        disable_connections: r.setting(&TABLE, "disable_connections", default.disable_connections)?,
        validator: validator(r)?,
    })
}

fn validator(r: &mut Reader) -> Result<Validator> {
    let mut flag = |key| r.setting(&VALIDATOR, key, false);
    let (enable, reject_oci_hook_adjustment) = (flag("enable")?, flag("reject_oci_hook_adjustment")?);
    Ok(Validator {
        enable,
        reject_oci_hook_adjustment,
        reject_runtime_default_seccomp_adjustment: flag("reject_runtime_default_seccomp_adjustment")?,
        reject_unconfined_seccomp_adjustment: flag("reject_unconfined_seccomp_adjustment")?,
        reject_custom_seccomp_adjustment: flag("reject_custom_seccomp_adjustment")?,
        reject_namespace_adjustment: flag("reject_namespace_adjustment")?,
        reject_sysctl_adjustment: flag("reject_sysctl_adjustment")?,
        required_plugins: r.setting(&VALIDATOR, "required_plugins", Vec::new())?,
        tolerate_missing_plugins_annotation: r.setting(
            &VALIDATOR,
            "tolerate_missing_plugins_annotation",
            String::new(),
        )?,
    })
}
