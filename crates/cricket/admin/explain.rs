//! `cricket explain`: everything that the daemon knows of a pod or container, as one document.

use std::sync::Arc;

use cricket_image::ImageStore;
use cricket_pod::{ContainerRecord, ContainerState, PodView, Pods, SandboxState, Step, Timeline};
use serde_json::{Map, Value, json};

use crate::doctor;

/// One pod, or one container of it.
type Subject = (Arc<PodView>, Option<Arc<ContainerRecord>>);

/// Describes the pod or container with this ID or unambiguous prefix.
///
/// # Errors
/// For a person: there is none, or there are several.
pub(super) async fn explain(pods: &Pods, prefix: &str) -> Result<Value, String> {
    let mut subjects: Vec<(String, Subject)> = Vec::new();
    for view in pods.all() {
        for container in &view.record.containers {
            subjects.push((container.id.to_string(), (view.clone(), Some(container.clone()))));
        }
        subjects.push((view.record.sandbox.id.to_string(), (view, None)));
    }
    let (view, container) = choose(prefix, subjects)?;
    let shared = pods.shared();
    let sandbox = &view.record.sandbox;
    let table = tokio::fs::read("/proc/self/mountinfo").await.unwrap_or_default();
    let mounts = doctor::mounts_in(&table, &shared.config.state);
    let mounts_of = |id: &str| -> Vec<String> {
        mounts.iter().filter(|(_, owner)| owner == id).map(|(path, _)| path.display().to_string()).collect()
    };
    let handler = match shared.handlers.get(&sandbox.handler) {
        Ok(handler) => serde_json::to_value(handler.config()).unwrap_or_default(),
        Err(e) => json!({ "name": sandbox.handler, "problem": e.to_string() }),
    };
    let metadata = sandbox.config.0.metadata.clone().unwrap_or_default();
    let unfinished = match sandbox.state {
        SandboxState::Creating => "being made: a restart undoes it",
        SandboxState::Removing => "being removed: a restart goes on with it",
        SandboxState::Ready | SandboxState::NotReady => "",
    };
    let pod = json!({
        "id": sandbox.id.as_str(),
        "name": format!("{}/{}", metadata.namespace, metadata.name),
        "uid": metadata.uid,
        "attempt": metadata.attempt,
        "state": format!("{:?}", sandbox.state),
        "unfinished": unfinished,
        "created": time(sandbox.created_at),
        "handler": handler,
        "monitor": view.monitor.as_ref().map(|m| json!({ "pid": m.pid(), "protocol": m.version() })),
        "init": sandbox.init.map(|(pid, _)| pid),
        "cgroup_parent": sandbox.config.0.linux.as_ref().map(|l| &l.cgroup_parent),
        "netns": sandbox.netns,
        "network": sandbox.network.as_ref().map(|n| json!({ "ips": n.ips, "interfaces": n.interfaces })),
        "mounts": mounts_of(sandbox.id.as_str()),
        "timeline": timeline(&sandbox.timeline),
    });
    Ok(match container {
        Some(container) => {
            let mut about = about(&container, &shared.images);
            about.insert("mounts".to_owned(), mounts_of(container.id.as_str()).into());
            json!({ "container": about, "pod": pod })
        }
        None => {
            let containers = view.record.containers.iter().map(|c| Value::Object(about(c, &shared.images)));
            json!({ "pod": pod, "containers": containers.collect::<Vec<_>>() })
        }
    })
}

/// The one whose ID is, or starts with, `prefix`.
fn choose<T>(prefix: &str, subjects: Vec<(String, T)>) -> Result<T, String> {
    let shown: String = prefix.chars().take(80).collect();
    let mut fitting: Vec<_> = subjects.into_iter().filter(|(id, _)| id.starts_with(prefix)).collect();
    if prefix.is_empty() || fitting.is_empty() {
        return Err(format!("no pod or container has the id {shown:?}"));
    }
    if fitting.len() > 1 {
        let ids: Vec<_> = fitting.iter().take(5).map(|(id, _)| id.get(..13).unwrap_or(id)).collect();
        return Err(format!("id {shown:?} is ambiguous: {} have it, {}", fitting.len(), ids.join(", ")));
    }
    Ok(fitting.remove(0).1)
}

fn about(container: &ContainerRecord, images: &ImageStore) -> Map<String, Value> {
    let metadata = container.config.0.metadata.clone().unwrap_or_default();
    let image = images.find(&container.image.id).ok().flatten();
    let state = match &container.state {
        ContainerState::Creating => json!({ "is": "Creating", "unfinished": "being made: a restart undoes it" }),
        ContainerState::Created => json!({ "is": "Created" }),
        ContainerState::Starting => json!({ "is": "Starting", "unfinished": "its init is being launched" }),
        ContainerState::Running(r) => json!({ "is": "Running", "pid": r.pid, "started": time(r.started_at) }),
        ContainerState::Exited(e) => json!({
            "is": "Exited", "code": e.code, "reason": e.reason, "message": e.message,
            "started": time(e.started_at), "finished": time(e.finished_at),
        }),
        ContainerState::Removing => json!({ "is": "Removing", "unfinished": "a restart goes on with it" }),
    };
    let about = json!({
        "id": container.id.as_str(),
        "name": metadata.name,
        "attempt": metadata.attempt,
        "state": state,
        "created": time(container.created_at),
        "cgroup": container.cgroup,
        "log": container.log_path,
        "stop_signal": container.stop_signal,
        "image": {
            "name": container.image.name,
            "id": container.image.id,
            "reference": container.image.reference,
            "chain_id": image.as_ref().map(|i| i.chain_id.to_string()),
            "diff_ids": image.as_ref().map(|i| i.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>()),
        },
        "volumes": container.volumes,
        "timeline": timeline(&container.timeline),
    });
    if let Value::Object(about) = about { about } else { Map::new() }
}

/// What was done, when, and for how many milliseconds.
fn timeline(timeline: &Timeline) -> Value {
    let step = |step: &Step| {
        let ms = (step.took > 0).then(|| f64::from(step.took) / 1e3);
        json!({ "at": time(step.at), "what": step.what, "ms": ms })
    };
    timeline.steps().iter().map(step).collect()
}

/// RFC 3339; nothing where it never was.
fn time(nanoseconds: i64) -> Option<String> {
    let at = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()?;
    (nanoseconds > 0).then(|| format!("{at:.3}"))
}

/// The document for a person: a line for each value, what is empty left out.
pub(crate) fn page(document: &Value) -> String {
    let mut out = String::new();
    write(&mut out, document, 0);
    out
}

fn write(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(_, v)| !is_empty(v)) {
                match value {
                    Value::Array(steps) if key == "timeline" => {
                        *out += &format!("{indent}{key}:\n");
                        steps.iter().for_each(|step| *out += &format!("{indent}  {}\n", line(step)));
                    }
                    Value::Object(_) | Value::Array(_) => {
                        *out += &format!("{indent}{key}:\n");
                        write(out, value, depth + 1);
                    }
                    value => *out += &format!("{indent}{key}: {}\n", plain(value)),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(_) | Value::Array(_) => {
                        *out += &format!("{indent}-\n");
                        write(out, item, depth + 1);
                    }
                    item => *out += &format!("{indent}- {}\n", plain(item)),
                }
            }
        }
        value => *out += &format!("{indent}{}\n", plain(value)),
    }
}

/// A step of a timeline: when, how long, what.
fn line(step: &Value) -> String {
    let took = step["ms"].as_f64().map(|ms| format!("{ms:.1} ms")).unwrap_or_default();
    format!("{:<24} {took:>12}  {}", plain(&step["at"]), plain(&step["what"]))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

/// One line: names and messages come from pods.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_chosen_by_any_prefix_that_is_its_own() {
        let all = || vec![("aab".to_owned(), 1), ("abc".to_owned(), 2), ("b".to_owned(), 3)];
        assert_eq!((choose("aa", all()), choose("b", all())), (Ok(1), Ok(3)));
        let error = choose("a", all()).expect_err("two");
        assert!(error.contains("ambiguous") && error.contains("aab") && error.contains("abc"), "{error}");
        for none in ["", "c", "abcd"] {
            assert!(choose(none, all()).expect_err("none").contains("no pod or container"), "{none}");
        }
    }

    #[test]
    fn a_page_leaves_out_what_is_empty_and_keeps_lines_whole() {
        let document = json!({
            "a": { "b": "x\ny", "none": null, "list": ["1", { "c": 2 }] }, "empty": {}, "no": false, "zero": 0,
        });
        assert_eq!(page(&document), "a:\n  b: x y\n  list:\n    - 1\n    -\n      c: 2\nzero: 0\n");
    }

    #[test]
    fn a_timeline_is_a_table() {
        let steps = json!([
            { "at": "2023-11-14T22:13:20.123Z", "what": "make\nit", "ms": 1.25 },
            { "at": "2023-11-14T22:13:21.000Z", "what": "killed", "ms": null },
        ]);
        let want = "timeline:\n  2023-11-14T22:13:20.123Z       1.2 ms  make it\n  2023-11-14T22:13:21.000Z               killed\n";
        assert_eq!(page(&json!({ "timeline": steps })), want);
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(1_700_000_000_123_456_789).as_deref(), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(time(0), None);
    }
}
