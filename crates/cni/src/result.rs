//! Results of ADD in every format of the specification, and conversion between them.
//!
//! Three formats exist: legacy (0.1.0, 0.2.0: `ip4`, `ip6`), tagged (0.3.0 to 0.4.0: `ips` with a `version` each) and
//! current (1.0.0, 1.1.0). Unknown fields are kept: plugins find what they said in `prevResult`.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::Version;

/// A result that has been checked to be an object of a known version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AddResult {
    version: Version,
    fields: Map<String, Value>,
}

#[derive(PartialEq)]
enum Format {
    Legacy,
    Tagged,
    Current,
}

fn format(version: Version) -> Format {
    match version {
        Version::V0_1_0 | Version::V0_2_0 => Format::Legacy,
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => Format::Tagged,
        Version::V1_0_0 | Version::V1_1_0 => Format::Current,
    }
}

impl AddResult {
    /// Reads what a plugin printed; without a version it is of the one that was asked for.
    pub(crate) fn parse(output: &[u8], asked: Version) -> Result<Self, String> {
        if output.iter().all(u8::is_ascii_whitespace) {
            return Err("empty".into());
        }
        Self::from_value(serde_json::from_slice(output).map_err(|e| format!("not JSON: {e}"))?, asked)
    }

    pub(crate) fn from_value(value: Value, asked: Version) -> Result<Self, String> {
        let Value::Object(fields) = value else { return Err("not a JSON object".into()) };
        let version = match fields.get("cniVersion") {
            None | Some(Value::Null) => asked,
            Some(Value::String(s)) if s.is_empty() => asked,
            Some(Value::String(s)) => s.parse()?,
            Some(_) => return Err("cniVersion is not a string".into()),
        };
        Ok(Self { version, fields })
    }

    /// The result as a plugin of `version` understands it.
    pub(crate) fn as_version(&self, version: Version) -> Value {
        let mut fields = match (format(self.version), format(version)) {
            (from, to) if from == to => self.fields.clone(),
            (_, Format::Current) => self.current(),
            (_, Format::Tagged) => tag(self.current()),
            (_, Format::Legacy) => legacy(self.current()),
        };
        fields.insert("cniVersion".into(), version.as_str().into());
        Value::Object(fields)
    }

    /// The fields in the current format.
    pub(crate) fn current(&self) -> Map<String, Value> {
        let mut fields = self.fields.clone();
        match format(self.version) {
            Format::Current => {}
            Format::Tagged => {
                for ip in fields.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(ip) = ip.as_object_mut() {
                        ip.remove("version");
                    }
                }
            }
            Format::Legacy => {
                let (mut ips, mut routes) = (Vec::new(), Vec::new());
                for family in ["ip4", "ip6"] {
                    let Some(Value::Object(mut old)) = fields.remove(family) else { continue };
                    if let Some(Value::Array(more)) = old.remove("routes") {
                        routes.extend(more);
                    }
                    if let Some(address) = old.remove("ip") {
                        old.insert("address".into(), address);
                    }
                    ips.push(Value::Object(old));
                }
                fields.insert("ips".into(), ips.into());
                fields.insert("routes".into(), routes.into());
            }
        }
        fields
    }
}

fn tag(mut fields: Map<String, Value>) -> Map<String, Value> {
    for ip in fields.get_mut("ips").and_then(Value::as_array_mut).into_iter().flatten() {
        let version = if is_v6(ip) { "6" } else { "4" };
        if let Some(ip) = ip.as_object_mut() {
            ip.insert("version".into(), version.into());
        }
    }
    fields
}

/// The first address of each family; the legacy format has room for no more.
fn legacy(mut fields: Map<String, Value>) -> Map<String, Value> {
    let take = |fields: &mut Map<String, Value>, key: &str| match fields.remove(key) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let (ips, routes) = (take(&mut fields, "ips"), take(&mut fields, "routes"));
    fields.remove("interfaces");
    for (key, v6) in [("ip4", false), ("ip6", true)] {
        let Some(Value::Object(ip)) = ips.iter().find(|ip| is_v6(ip) == v6) else { continue };
        let mut old = Map::new();
        old.insert("ip".into(), ip.get("address").cloned().unwrap_or_default());
        if let Some(gateway) = ip.get("gateway") {
            old.insert("gateway".into(), gateway.clone());
        }
        let of_family = |r: &&Value| r.get("dst").and_then(Value::as_str).is_some_and(|d| d.contains(':') == v6);
        old.insert("routes".into(), routes.iter().filter(of_family).cloned().collect());
        fields.insert(key.into(), Value::Object(old));
    }
    fields
}

fn is_v6(ip: &Value) -> bool {
    ip.get("address").and_then(Value::as_str).is_some_and(|a| a.contains(':'))
}

/// An address with its prefix length, `10.0.0.2/24`.
pub(crate) fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().ok()?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.unwrap_or(longest);
    (prefix <= longest).then_some((ip, prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> AddResult {
        AddResult::from_value(value, Version::V1_0_0).expect("valid")
    }

    #[test]
    fn legacy_results_become_current_and_back() {
        let old = json!({"cniVersion": "0.2.0", "dns": {"nameservers": ["10.0.0.1"]},
            "ip4": {"ip": "10.0.0.2/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "fd00::2/64", "routes": []}});
        let new = parse(old.clone()).as_version(Version::V1_1_0);
        assert_eq!(new["ips"], json!([{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}, {"address": "fd00::2/64"}]));
        assert_eq!((&new["routes"], &new["cniVersion"]), (&json!([{"dst": "0.0.0.0/0"}]), &json!("1.1.0")));
        assert_eq!(parse(new).as_version(Version::V0_2_0), old);
    }

    #[test]
    fn tags_come_and_go_and_unknown_fields_stay() {
        let tagged = json!({"cniVersion": "0.4.0", "x": 1, "interfaces": [{"name": "eth0"}],
            "ips": [{"version": "4", "address": "10.0.0.2/24", "interface": 0}, {"version": "6", "address": "::2/64"}]});
        let current = parse(tagged.clone()).as_version(Version::V1_0_0);
        assert_eq!(current["ips"], json!([{"address": "10.0.0.2/24", "interface": 0}, {"address": "::2/64"}]));
        assert_eq!(parse(current).as_version(Version::V0_4_0), tagged);
    }

    #[test]
    fn garbage_is_refused() {
        for bad in ["", " \n", "x", "[]", "3", r#"{"cniVersion":7}"#, r#"{"cniVersion":"2.0.0"}"#, "{}{}"] {
            assert!(AddResult::parse(bad.as_bytes(), Version::V1_0_0).is_err(), "{bad:?}");
        }
        assert_eq!((cidr("10.0.0.1/33"), cidr("x/8"), cidr("10.0.0.1/-1")), (None, None, None));
        assert!(cidr("fd00::1/64").is_some() && cidr("10.0.0.1").is_some());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), "\\PC{0,12}".prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof!["ips", "ip4", "ip6", "routes", "ip", "address", "interfaces", "dns", "[a-z]{1,3}"];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key, inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn conversion_never_panics(value in any_json(), from in 0usize..7, to in 0usize..7) {
            if let Ok(result) = AddResult::from_value(value, Version::ALL[from]) {
                let converted = result.as_version(Version::ALL[to]);
                prop_assert_eq!(&converted["cniVersion"], Version::ALL[to].as_str());
                let _ = crate::attachment::Attachment::build(&[("eth0".into(), result)]);
            }
        }

        #[test]
        fn output_never_panics(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = AddResult::parse(&text, Version::V1_0_0);
        }
    }
}
