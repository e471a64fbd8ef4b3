//! The configuration a plugin reads on its standard input (specification, section 3, "Deriving execution configuration").

use serde_json::{Map, Value};

use crate::list::{NetworkList, Plugin};

/// Key under which GC hands over the attachments that are to stay.
pub(crate) const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// `plugin`'s own object with the list's name and version, the capability arguments it declares and `extra` keys.
pub(crate) fn compose<'a>(
    list: &NetworkList,
    plugin: &Plugin,
    capability_args: &Map<String, Value>,
    extra: impl IntoIterator<Item = (&'a str, Value)>,
) -> Value {
    let mut conf = plugin.conf.clone();
    conf.insert("name".into(), list.name.as_str().into());
    conf.insert("cniVersion".into(), list.version.as_str().into());
    let runtime: Map<_, _> = capability_args
        .iter()
        .filter(|(key, _)| plugin.capabilities.contains(*key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !runtime.is_empty() {
        conf.insert("runtimeConfig".into(), Value::Object(runtime));
    }
    for (key, value) in extra {
        conf.insert(key.into(), value);
    }
    Value::Object(conf)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_declared_capabilities_are_given() {
        let list = NetworkList::from_value(&json!({"name": "n", "cniVersion": "1.0.0", "plugins": [
            {"type": "portmap", "capabilities": {"portMappings": true, "dns": false}},
            {"type": "tuning"},
        ]}))
        .expect("valid");
        let args = json!({"portMappings": [1], "dns": {}, "bandwidth": {}});
        let args = args.as_object().expect("object");
        let first = compose(&list, &list.plugins[0], args, [("prevResult", json!({}))]);
        assert_eq!(first["runtimeConfig"], json!({"portMappings": [1]}));
        assert_eq!(
            (&first["name"], &first["cniVersion"], &first["prevResult"]),
            (&json!("n"), &json!("1.0.0"), &json!({}))
        );
        assert_eq!(compose(&list, &list.plugins[1], args, []).get("runtimeConfig"), None);
    }
}
