//! Events. Without an API server a kubelet writes them to its log only, one
//! JSON object a line, as it would have sent them.

use serde_json::Value;

/// What a kubelet tells about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The pod's name, without the node's.
    pub pod: String,
    /// Which part of it, such as `spec.containers{main}`; empty: all of it.
    pub field: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// The reason, one word.
    pub reason: String,
    /// The text for a person.
    pub message: String,
}

/// The events in a log; lines of other kinds are skipped, also a last line that
/// is still being written.
pub(crate) fn read(log: &str, node: &str) -> Vec<Event> {
    let suffix = format!("-{node}");
    let objects = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let events = objects.filter(|object| object["msg"] == "Event occurred");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = |object: Value| Event {
        pod: text(&object["object"]["name"]).trim_end_matches(&suffix).to_owned(),
        field: text(&object["fieldPath"]),
        kind: text(&object["type"]),
        reason: text(&object["reason"]),
        message: text(&object["message"]),
    };
    events.map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_among_other_lines() {
        let log = r#"not JSON
{"ts":1.5,"msg":"Starting"}
{"ts":2.5,"msg":"Event occurred","object":{"name":"a-node1","namespace":"default"},"fieldPath":"spec.containers{c}","kind":"Pod","type":"Warning","reason":"Failed","message":"no"}
{"ts":3.5,"msg":"Event occ"#;
        let [event] = &read(log, "node1")[..] else { panic!("one event") };
        assert_eq!((event.pod.as_str(), event.reason.as_str()), ("a", "Failed"));
        assert_eq!((event.field.as_str(), event.kind.as_str()), ("spec.containers{c}", "Warning"));
    }
}
