//! Reads one `hosts.toml` (containerd's `docs/hosts.md`) into the endpoints it lists, in the order of the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use toml::{Table, Value};
use url::Url;

/// Most endpoints of one registry.
const MAX_ENDPOINTS: usize = 64;

/// One endpoint as the configuration describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    /// Up to where repositories begin; none: the registry's own address.
    pub(crate) base: Option<Url>,
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) skip_verify: bool,
    pub(crate) roots: Vec<PathBuf>,
    /// Certificate and key; no key: both are in the first file.
    pub(crate) identities: Vec<(PathBuf, Option<PathBuf>)>,
    pub(crate) headers: HeaderMap,
    pub(crate) dial_timeout: Option<Duration>,
}

impl Entry {
    /// The registry itself, without anything configured.
    pub(crate) fn upstream() -> Self {
        Self { pull: true, resolve: true, ..Self::default() }
    }
}

/// The endpoints of a file, the registry's own server last. Relative paths are below `dir`. What is not understood
/// goes to `unknown`.
///
/// # Errors
/// The text is no TOML, or a field has a value that cannot be used; the error names it.
pub(crate) fn parse(text: &str, dir: &Path, unknown: &mut Vec<String>) -> Result<Vec<Entry>, String> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| e.to_string().trim().to_owned())?;
    let mut entries = Vec::new();
    match table.get("host") {
        None => {}
        Some(Value::Table(hosts)) => {
            if hosts.len() >= MAX_ENDPOINTS {
                return Err(format!("host: more than {MAX_ENDPOINTS} endpoints"));
            }
            for (address, fields) in hosts {
                let place = format!("host.{address:?}");
                let Value::Table(fields) = fields else { return Err(format!("{place}: want a table")) };
                entries.push(entry(Some(address), fields, dir, &place, unknown)?);
            }
        }
        Some(_) => return Err("host: want a table".to_owned()),
    }
    let server = match table.get("server") {
        None => None,
        Some(Value::String(server)) => Some(server.as_str()).filter(|s| !s.is_empty()),
        Some(_) => return Err("server: want a string".to_owned()),
    };
    let mut last = entry(server, &table, dir, "", unknown)?;
    if server.is_none() {
        (last.pull, last.resolve) = (true, true);
    }
    entries.push(last);
    Ok(entries)
}

fn entry(
    address: Option<&str>,
    fields: &Table,
    dir: &Path,
    place: &str,
    unknown: &mut Vec<String>,
) -> Result<Entry, String> {
    let at = |field: &str| if place.is_empty() { field.to_owned() } else { format!("{place}.{field}") };
    let mut entry = Entry::upstream();
    let mut override_path = false;
    for (field, value) in fields {
        let wrong = |want: &str| Err(format!("{}: want {want}", at(field)));
        match (field.as_str(), value) {
            ("server" | "host", _) if place.is_empty() => {}
            ("capabilities", value) => {
                let Some(list) = strings(value) else { return wrong("a list of strings") };
                if let Some(other) =
                    list.iter().find(|c| !matches!(c.as_str(), "pull" | "resolve" | "push" | "referrers"))
                {
                    return Err(format!("{}: unknown capability {other:?}", at(field)));
                }
                let has = |name: &str| list.is_empty() || list.iter().any(|c| c == name);
                (entry.pull, entry.resolve) = (has("pull"), has("resolve"));
            }
            ("skip_verify", Value::Boolean(skip)) => entry.skip_verify = *skip,
            ("override_path", Value::Boolean(on)) => override_path = *on,
            ("ca", value) => {
                let Some(list) = strings(value) else { return wrong("a path or a list of paths") };
                entry.roots = list.iter().map(|p| dir.join(p)).collect();
            }
            ("client", value) => {
                let Some(list) = identities(value, dir) else { return wrong("a path, or a list of paths or pairs") };
                entry.identities = list;
            }
            ("header", Value::Table(headers)) => {
                for (name, value) in headers {
                    let Some(values) = strings(value) else { return wrong("strings or lists of strings") };
                    add_header(&mut entry.headers, name, &values).map_err(|e| format!("{}: {e}", at(field)))?;
                }
            }
            ("dial_timeout", Value::String(text)) => match duration(text) {
                Some(time) => entry.dial_timeout = Some(time).filter(|t| !t.is_zero()),
                None => return wrong("a time such as \"3s\""),
            },
            ("skip_verify" | "override_path", _) => return wrong("true or false"),
            ("header", _) => return wrong("a table"),
            ("dial_timeout", _) => return wrong("a string"),
            _ => unknown.push(at(field)),
        }
    }
    entry.base = address.map(|a| base(a, override_path)).transpose()?;
    Ok(entry)
}

/// The address that repositories are below: `/v2` is added unless the path is to be taken as it is.
pub(crate) fn base(address: &str, override_path: bool) -> Result<Url, String> {
    let wrong = |why: &str| format!("{address:?} is not an endpoint's address: {why}");
    let full = match address.contains("://") {
        true => address.to_owned(),
        false => format!("https://{address}"),
    };
    let mut url = Url::parse(&full).map_err(|e| wrong(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("want http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("want scheme, host, port and path only"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let add = !override_path && !path.ends_with("/v2");
    url.set_path(&format!("{path}{}", if add { "/v2" } else { "" }));
    Ok(url)
}

/// Adds a header's values.
pub(crate) fn add_header(headers: &mut HeaderMap, name: &str, values: &[String]) -> Result<(), String> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is not a header's name"))?;
    if name == http::header::HOST || name == http::header::CONTENT_LENGTH || name == http::header::RANGE {
        return Err(format!("{name} cannot be set"));
    }
    for value in values {
        // The value may be a secret: it is not repeated.
        let mut value = HeaderValue::from_str(value).map_err(|_| format!("{name} has a value that cannot be sent"))?;
        value.set_sensitive(true);
        headers.append(name.clone(), value);
    }
    Ok(())
}

fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(s) => Some(vec![s.clone()]),
        Value::Array(list) => list.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn identities(value: &Value, dir: &Path) -> Option<Vec<(PathBuf, Option<PathBuf>)>> {
    let Value::Array(list) = value else { return Some(vec![(dir.join(value.as_str()?), None)]) };
    list.iter()
        .map(|item| match item {
            Value::String(path) => Some((dir.join(path), None)),
            Value::Array(_) => match strings(item)?.as_slice() {
                [cert] => Some((dir.join(cert), None)),
                [cert, key] => Some((dir.join(cert), Some(dir.join(key)).filter(|_| !key.is_empty()))),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// A duration as Go writes it, in the units that make sense here: `500ms`, `3s`, `1m30s`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let scale = match &rest[digits..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * scale;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).ok()
}
