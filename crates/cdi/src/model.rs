//! A specification as its file has it (specs-go/config.go): what is absent, null and empty is the same, but where a
//! comment says otherwise. Unknown fields are refused, as a container would silently lack what they mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Null is what the default is: programs write lists that they have nothing in like that.
fn given<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($(#[$meta])* #[serde(default, deserialize_with = "given")] pub $field: $kind,)*
        }
    )*};
}

parts! {
    /// A file.
    Specification {
        /// The version of the CDI specification that it is written in.
        cdi_version: String,
        /// Vendor and class.
        kind: String,
        /// For people.
        annotations: BTreeMap<String, String>,
        /// At least one.
        devices: Vec<Device>,
        /// For every container with one of the devices.
        container_edits: Edits,
    }

    /// A device.
    Device {
        /// Its name within the kind.
        name: String,
        /// For people.
        annotations: BTreeMap<String, String>,
        /// For every container with it.
        container_edits: Edits,
    }

    /// What becomes of a container's specification.
    Edits {
        /// `NAME=VALUE`.
        env: Vec<String>,
        /// Nodes of devices.
        device_nodes: Vec<DeviceNode>,
        /// Network interfaces of the host that the container takes.
        net_devices: Vec<NetDevice>,
        /// Programs to run.
        hooks: Vec<Hook>,
        /// Mounts.
        mounts: Vec<Mount>,
        /// Intel's Resource Director Technology.
        intel_rdt: Option<IntelRdt>,
        /// Supplementary groups.
        additional_gids: Vec<u32>,
    }

    /// A node.
    DeviceNode {
        /// In the container.
        path: String,
        /// On the host; empty: the same.
        host_path: String,
        /// `b`, `c`, `u` or `p`; empty: the host's.
        #[serde(rename = "type")]
        kind: String,
        /// 0: the host's.
        major: i64,
        /// The minor number, where `major` is given.
        minor: i64,
        /// Mode bits; the host's without.
        file_mode: Option<u32>,
        /// Letters of `rwm`, or `none`; empty: all.
        permissions: String,
        /// Owner; the container's user without.
        uid: Option<u32>,
        /// Group; the container's without.
        gid: Option<u32>,
    }

    /// A network interface.
    NetDevice {
        /// On the host.
        host_interface_name: String,
        /// In the container.
        name: String,
    }

    /// A hook.
    Hook {
        /// `prestart`, `createRuntime`, `createContainer`, `startContainer`, `poststart`, `poststop`.
        hook_name: String,
        /// The program.
        path: String,
        /// Its arguments, with its name.
        args: Vec<String>,
        /// Its environment.
        env: Vec<String>,
        /// Seconds.
        timeout: Option<i64>,
    }

    /// A mount.
    Mount {
        /// The source.
        host_path: String,
        /// The destination.
        container_path: String,
        /// As mount(8) has them.
        options: Vec<String>,
        /// The file system; empty: a bind mount.
        #[serde(rename = "type")]
        kind: String,
    }

    /// Intel's Resource Director Technology.
    IntelRdt {
        /// The class.
        #[serde(rename = "closID")]
        clos_id: String,
        /// The line for the L3 cache.
        l3_cache_schema: String,
        /// The line for memory bandwidth.
        mem_bw_schema: String,
        /// All lines; an empty list is not the same as none.
        schemata: Option<Vec<String>>,
        /// A monitoring group of its own.
        enable_monitoring: bool,
        /// Up to version 1.0.0: watch the cache.
        #[serde(rename = "enableCMT")]
        enable_cmt: bool,
        /// Up to version 1.0.0: watch memory bandwidth.
        #[serde(rename = "enableMBM")]
        enable_mbm: bool,
    }
}
