//! The loaded configuration as the verbose Status shows it.

use serde_json::{Map, Value, json};

use crate::CniConfig;
use crate::conf::Network;

/// The names are those of containerd's `cniconfig`.
pub(crate) fn describe(config: &CniConfig, networks: &[Network]) -> Value {
    let networks: Vec<_> = networks.iter().map(network).collect();
    json!({
        "PluginDirs": config.bin_dirs,
        "PluginConfDir": config.conf_dir,
        "PluginMaxConfNum": config.max_conf_num,
        "Prefix": "eth",
        "Networks": networks,
    })
}

fn network(network: &Network) -> Value {
    let plugins: Vec<_> = network.list.plugins.iter().map(|p| plugin(&p.conf)).collect();
    json!({
        "Config": {
            "Name": network.list.name,
            "CNIVersion": network.list.version.as_str(),
            "Plugins": plugins,
            "Source": network.source,
        },
        "IFName": network.ifname,
    })
}

/// The fields that every plugin has, and all of it as text.
fn plugin(conf: &Map<String, Value>) -> Value {
    let mut common = Map::new();
    for key in ["cniVersion", "name", "type", "capabilities"] {
        if let Some(value) = conf.get(key) {
            common.insert(key.into(), value.clone());
        }
    }
    let ipam = conf.get("ipam").and_then(|i| i.get("type")).map(|t| json!({"type": t}));
    common.insert("ipam".into(), ipam.unwrap_or_else(|| json!({})));
    common.insert("dns".into(), conf.get("dns").cloned().unwrap_or_else(|| json!({})));
    json!({"Network": common, "Source": Value::Object(conf.clone()).to_string()})
}
