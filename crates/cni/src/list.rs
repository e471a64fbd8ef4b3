//! A network configuration list: the plugins of one network and the order in which they run.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::Version;

/// A validated configuration list (specification, section 1).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkList {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) disable_check: bool,
    pub(crate) disable_gc: bool,
    pub(crate) plugins: Vec<Plugin>,
}

/// One plugin of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plugin {
    /// `type`: a plain file name.
    pub(crate) program: String,
    /// Capabilities it declares with `true`.
    pub(crate) capabilities: BTreeSet<String>,
    /// Its object as written.
    pub(crate) conf: Map<String, Value>,
}

impl NetworkList {
    /// Reads a list, or a configuration of a single plugin, which becomes a list of one.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|e| format!("not JSON: {e}"))?;
        Self::from_value(&value)
    }

    pub(crate) fn from_value(value: &Value) -> Result<Self, String> {
        let top = value.as_object().ok_or("not a JSON object")?;
        let name = text(top, "name")?.ok_or("no name")?;
        check_name(name)?;
        let plugins = match top.get("plugins") {
            Some(Value::Array(plugins)) => plugins.iter().map(Plugin::from_value).collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err("plugins is not an array".into()),
            None => vec![Plugin::from_value(value)?],
        };
        if plugins.is_empty() {
            return Err("no plugins".into());
        }
        Ok(Self {
            name: name.to_owned(),
            version: choose_version(top)?,
            disable_check: flag(top, "disableCheck")?,
            disable_gc: flag(top, "disableGC")?,
            plugins,
        })
    }

    /// The list as JSON that [`Self::from_value`] reads back to the same value.
    pub(crate) fn to_value(&self) -> Value {
        json!({
            "name": self.name,
            "cniVersion": self.version.as_str(),
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "plugins": self.plugins.iter().map(|p| Value::Object(p.conf.clone())).collect::<Vec<_>>(),
        })
    }
}

impl Plugin {
    fn from_value(value: &Value) -> Result<Self, String> {
        let conf = value.as_object().ok_or("plugin is not a JSON object")?;
        let program = text(conf, "type")?.ok_or("plugin without type")?;
        check_program(program)?;
        let capabilities = match conf.get("capabilities") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::Object(c)) => {
                c.iter().filter(|(_, v)| **v == Value::Bool(true)).map(|(k, _)| k.clone()).collect()
            }
            Some(_) => return Err(format!("plugin {program:?}: capabilities is not an object")),
        };
        Ok(Self { program: program.to_owned(), capabilities, conf: conf.clone() })
    }
}

/// `type` names a file in a plugin directory and nothing outside of it (CVE-2021-20206).
fn check_program(program: &str) -> Result<(), String> {
    let bad = program.is_empty() || program == "." || program.contains("..") || program.contains(['/', '\0']);
    if bad || program.len() > 255 { Err(format!("invalid plugin type {program:?}")) } else { Ok(()) }
}

/// A network's name is part of paths that plugins make: letters, digits, `_`, `.` and `-`.
fn check_name(name: &str) -> Result<(), String> {
    let ok = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if ok && name.len() <= 255 { Ok(()) } else { Err(format!("invalid network name {name:?}")) }
}

/// The highest known one of `cniVersion` and `cniVersions`.
fn choose_version(top: &Map<String, Value>) -> Result<Version, String> {
    let single = text(top, "cniVersion")?;
    let listed = match top.get("cniVersions") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(v)) => v.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err("cniVersions is not an array".into()),
    };
    if listed.is_empty() {
        return single.unwrap_or_default().parse();
    }
    listed
        .into_iter()
        .chain(single)
        .filter_map(|v| v.parse().ok())
        .max()
        .ok_or_else(|| "cniVersions has no version that is supported".into())
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(_) => Err(format!("{key} is not a string")),
    }
}

/// Booleans may be written as strings; existing configurations do.
fn flag(map: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(b)) => Ok(*b),
        Some(Value::String(s)) if s.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(s)) if s.eq_ignore_ascii_case("false") || s.is_empty() => Ok(false),
        Some(_) => Err(format!("{key} is not a boolean")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(json: &str) -> Result<NetworkList, String> {
        NetworkList::parse(json.as_bytes())
    }

    #[test]
    fn single_plugins_become_lists() {
        let l = list(r#"{"name":"n","cniVersion":"0.3.1","type":"bridge","disableCheck":"true"}"#).expect("valid");
        assert_eq!((l.plugins.len(), l.version, l.disable_check), (1, Version::V0_3_1, true));
        assert_eq!(NetworkList::from_value(&l.to_value()), Ok(l));
    }

    #[test]
    fn dangerous_or_useless_lists_are_refused() {
        for program in ["", ".", "..", "a/b", "../x", "/bin/sh", "a..b", "a\\u0000b"] {
            let json = format!(r#"{{"name":"n","cniVersion":"1.0.0","plugins":[{{"type":"{program}"}}]}}"#);
            assert!(list(&json).is_err(), "{program:?}");
        }
        for json in [
            "",
            "[]",
            "{}",
            r#"{"name":"n","plugins":[]}"#,
            r#"{"name":"n"}"#,
            r#"{"name":"../n","type":"x"}"#,
            r#"{"name":"","type":"x"}"#,
            r#"{"name":"n","type":"x","cniVersion":"9.0.0"}"#,
            r#"{"name":"n","type":7}"#,
            r#"{"name":"n","type":"x","disableGC":3}"#,
        ] {
            assert!(list(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_highest_known_version_is_chosen() {
        let l = list(r#"{"name":"n","type":"x","cniVersion":"0.4.0","cniVersions":["0.3.1","1.0.0","7.0.0"]}"#);
        assert_eq!(l.map(|l| l.version), Ok(Version::V1_0_0));
        assert_eq!(list(r#"{"name":"n","type":"x"}"#).map(|l| l.version), Ok(Version::V0_1_0));
    }

    proptest! {
        #[test]
        fn never_panics_and_round_trips(text in "\\PC{0,200}", name in "[a-z/.]{0,6}", program in "[a-z/.]{0,6}") {
            let _ = list(&text);
            let json = json!({"name": name, "cniVersion": "1.1.0", "plugins": [{"type": program, "x": text}]});
            if let Ok(l) = NetworkList::from_value(&json) {
                prop_assert!(!l.plugins[0].program.contains('/') && l.plugins[0].program != "..");
                prop_assert_eq!(NetworkList::from_value(&l.to_value()), Ok(l));
            }
        }
    }
}
