//! What a pod got from its networks.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::result::{AddResult, cidr};

/// The outcome of a finished ADD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// Addresses of the first network's interface in the order reported, but an IPv4 one comes first. Never empty.
    pub ips: Vec<IpAddr>,
    /// Every interface the plugins reported, those on the host's side included.
    pub interfaces: Vec<Interface>,
    /// The verbose status' `cniResult`: `Interfaces`, `DNS`, `Routes`, as containerd's clients know them.
    pub result: Value,
}

/// An interface as a plugin reported it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Hardware address, may be empty.
    pub mac: String,
    /// Path of the network namespace it is in; empty on the host.
    pub sandbox: String,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The gateway, if any.
    pub gateway: Option<IpAddr>,
}

impl Attachment {
    /// Joins the last result of each network, the first network's first.
    pub(crate) fn build(results: &[(String, AddResult)]) -> Result<Self, String> {
        let (mut interfaces, mut dns, mut routes) = (Vec::new(), Vec::new(), Vec::new());
        for (ifname, result) in results {
            let fields = result.current();
            interfaces.extend(read_interfaces(ifname, &fields)?);
            dns.push(fields.get("dns").filter(|d| d.is_object()).cloned().unwrap_or_else(|| json!({})));
            routes.extend(items(&fields, "routes")?.iter().cloned());
        }
        let primary = results.first().map_or("", |(ifname, _)| ifname.as_str());
        let mut ips: Vec<IpAddr> =
            interfaces.iter().filter(|i| i.name == primary).flat_map(|i| i.addresses.iter().map(|a| a.ip)).collect();
        if ips.is_empty() {
            return Err(format!("no address for interface {primary:?}"));
        }
        if let Some(first) = ips.iter().position(IpAddr::is_ipv4) {
            ips[..=first].rotate_right(1);
        }
        let result = json!({"Interfaces": describe(&interfaces), "DNS": dns, "Routes": routes});
        Ok(Self { ips, interfaces, result })
    }
}

fn items<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(format!("{key} is not an array")),
    }
}

fn read_interfaces(ifname: &str, fields: &Map<String, Value>) -> Result<Vec<Interface>, String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut interfaces: Vec<Interface> = items(fields, "interfaces")?
        .iter()
        .map(|i| Interface {
            name: text(i, "name"),
            mac: text(i, "mac"),
            sandbox: text(i, "sandbox"),
            addresses: Vec::new(),
        })
        .collect();
    let reported = interfaces.len();
    for ip in items(fields, "ips")? {
        let address = ip.get("address").and_then(Value::as_str).unwrap_or_default();
        let (ip_addr, prefix) = cidr(address).ok_or_else(|| format!("invalid address {address:?}"))?;
        let gateway = match ip.get("gateway").and_then(Value::as_str) {
            None | Some("") => None,
            Some(g) => Some(g.parse().map_err(|_| format!("invalid gateway {g:?}"))?),
        };
        let at = match ip.get("interface") {
            // Addresses of no interface in particular belong to the one that was asked for.
            None | Some(Value::Null) => position(&mut interfaces, ifname),
            Some(index) => index
                .as_u64()
                .and_then(|i| usize::try_from(i).ok())
                .filter(|i| *i < reported)
                .ok_or_else(|| format!("address {address} is of interface {index}, which is not reported"))?,
        };
        interfaces[at].addresses.push(InterfaceAddress { ip: ip_addr, prefix, gateway });
    }
    Ok(interfaces)
}

fn position(interfaces: &mut Vec<Interface>, ifname: &str) -> usize {
    interfaces.iter().position(|i| i.name == ifname).unwrap_or_else(|| {
        interfaces.push(Interface {
            name: ifname.to_owned(),
            mac: String::new(),
            sandbox: String::new(),
            addresses: Vec::new(),
        });
        interfaces.len() - 1
    })
}

fn describe(interfaces: &[Interface]) -> Map<String, Value> {
    let gateway = |a: &InterfaceAddress| a.gateway.map(|g| g.to_string()).unwrap_or_default();
    interfaces
        .iter()
        .map(|i| {
            let ips: Vec<_> = i.addresses.iter().map(|a| json!({"IP": a.ip, "Gateway": gateway(a)})).collect();
            let ips = if ips.is_empty() { Value::Null } else { ips.into() };
            (
                i.name.clone(),
                json!({"IPConfigs": ips, "Mac": i.mac, "Sandbox": i.sandbox, "PciID": "", "SocketPath": ""}),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;

    fn build(values: &[Value]) -> Result<Attachment, String> {
        let results: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(n, v)| (format!("eth{n}"), AddResult::from_value(v.clone(), Version::V1_0_0).expect("object")))
            .collect();
        Attachment::build(&results)
    }

    #[test]
    fn ipv4_comes_first_and_other_networks_do_not_count() {
        let a = build(&[
            json!({"interfaces": [{"name": "br0"}, {"name": "eth0", "mac": "02:00", "sandbox": "/n"}],
                "ips": [{"address": "fd00::2/64", "interface": 1}, {"address": "fd00::3/64", "interface": 1},
                        {"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1}]}),
            json!({"ips": [{"address": "10.1.0.2/24"}], "routes": [{"dst": "10.1.0.0/16"}], "dns": null}),
        ])
        .expect("valid");
        let ips: Vec<_> = a.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.0.0.2", "fd00::2", "fd00::3"]);
        assert_eq!(a.result["Interfaces"]["eth0"]["IPConfigs"][2], json!({"IP": "10.0.0.2", "Gateway": "10.0.0.1"}));
        assert_eq!(a.result["Interfaces"]["eth1"]["IPConfigs"][0]["IP"], "10.1.0.2");
        assert_eq!((&a.result["Interfaces"]["br0"]["IPConfigs"], &a.result["DNS"]), (&Value::Null, &json!([{}, {}])));
        assert_eq!(serde_json::from_value::<Attachment>(json!(a)).expect("round trip"), a);
    }

    #[test]
    fn partial_results_are_refused_with_the_reason() {
        for (value, reason) in [
            (json!({}), "no address"),
            (json!({"ips": null}), "no address"),
            (json!({"ips": {}}), "not an array"),
            (json!({"ips": [{}]}), "invalid address"),
            (json!({"ips": [{"address": "10.0.0.2/24", "gateway": "x"}]}), "invalid gateway"),
            (json!({"ips": [{"address": "10.0.0.2/24", "interface": 0}]}), "not reported"),
            (
                json!({"interfaces": [{"name": "br0"}], "ips": [{"address": "10.0.0.2/24", "interface": 0}]}),
                "no address",
            ),
        ] {
            let e = build(std::slice::from_ref(&value)).expect_err("partial");
            assert!(e.contains(reason), "{value}: {e}");
        }
    }
}
