//! The pod's network as the plugins are asked for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use cricket_cni::{Bandwidth, Dns, PodNetwork, PortMapping, Protocol};
use cricket_cri_api::v1;
use cricket_model::SandboxId;

use crate::error::{Error, Result};

/// What the plugins are told.
///
/// # Errors
/// `InvalidArgument` for a port, address or bandwidth that makes no sense.
pub(super) fn pod_network(
    id: &SandboxId,
    netns: &Path,
    handler: &str,
    config: &v1::PodSandboxConfig,
) -> Result<PodNetwork> {
    let metadata = config.metadata.clone().unwrap_or_default();
    let annotations: BTreeMap<String, String> = config.annotations.clone().into_iter().collect();
    let bandwidth =
        Bandwidth::from_annotations(&annotations).map_err(|e| Error::from_kinded("bandwidth annotations", &e))?;
    let port_mappings = config.port_mappings.iter().filter(|p| p.host_port > 0).map(port).collect::<Result<_>>()?;
    let dns = config.dns_config.as_ref().map(|d| Dns {
        servers: d.servers.clone(),
        searches: d.searches.clone(),
        options: d.options.clone(),
    });
    Ok(PodNetwork {
        sandbox: id.clone(),
        netns: netns.to_owned(),
        handler: handler.to_owned(),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        annotations,
        port_mappings,
        bandwidth,
        dns,
        cgroup_parent: config.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default(),
    })
}

fn port(p: &v1::PortMapping) -> Result<PortMapping> {
    let number = |field: &str, n: i32| {
        u16::try_from(n).map_err(|_| Error::invalid(format_args!("port mapping: {field} {n} is no port")))
    };
    let host_ip = match p.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse::<IpAddr>()
                .map_err(|_| Error::invalid(format_args!("port mapping: host_ip {text:?} is no address")))?,
        ),
    };
    let protocol = match v1::Protocol::try_from(p.protocol) {
        Ok(v1::Protocol::Tcp) => Protocol::Tcp,
        Ok(v1::Protocol::Udp) => Protocol::Udp,
        Ok(v1::Protocol::Sctp) => Protocol::Sctp,
        Err(_) => return Err(Error::invalid(format_args!("port mapping: protocol {} is unknown", p.protocol))),
    };
    Ok(PortMapping {
        host_port: number("host_port", p.host_port)?,
        container_port: number("container_port", p.container_port)?,
        protocol,
        host_ip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_without_a_host_port_are_left_out() {
        let config = v1::PodSandboxConfig {
            port_mappings: vec![
                v1::PortMapping { container_port: 80, host_port: 0, ..Default::default() },
                v1::PortMapping { container_port: 80, host_port: -1, ..Default::default() },
                v1::PortMapping { container_port: 80, host_port: 8080, protocol: 1, ..Default::default() },
            ],
            ..Default::default()
        };
        let id = SandboxId::generate();
        let network = pod_network(&id, Path::new("/x"), "", &config).expect("valid");
        assert_eq!(network.port_mappings.len(), 1);
        assert_eq!(network.port_mappings[0].protocol, Protocol::Udp);
        let bad = v1::PodSandboxConfig {
            port_mappings: vec![v1::PortMapping { host_port: 70000, container_port: 80, ..Default::default() }],
            ..Default::default()
        };
        assert!(pod_network(&id, Path::new("/x"), "", &bad).is_err());
    }
}
