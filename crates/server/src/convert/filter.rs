//! Filters of the list RPCs: an ID or an unambiguous prefix of one, a state, labels that must all match.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_pod::{ContainerRecord, Error, PodView};

type Labels = HashMap<String, String>;

fn labels(wanted: &Labels, has: &Labels) -> bool {
    wanted.iter().all(|(k, v)| has.get(k) == Some(v))
}

/// Whether the filter lets this sandbox through: asked of the record, so that nothing is copied in vain.
pub(crate) fn sandbox(filter: &v1::PodSandboxFilter, pod: &PodView) -> bool {
    let record = &pod.record.sandbox;
    fits(filter, record.id.as_str(), super::sandbox::state(record.state), &record.config.0.labels)
}

fn fits(filter: &v1::PodSandboxFilter, id: &str, state: v1::PodSandboxState, has: &Labels) -> bool {
    id.starts_with(&filter.id)
        && filter.state.as_ref().is_none_or(|s| s.state == i32::from(state))
        && labels(&filter.label_selector, has)
}

/// Whether the filter lets this container of a sandbox through.
pub(crate) fn container(filter: &v1::ContainerFilter, sandbox: &str, record: &ContainerRecord) -> bool {
    record.id.as_str().starts_with(&filter.id)
        && sandbox.starts_with(&filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|s| s.state == i32::from(super::container::state(record)))
        && labels(&filter.label_selector, &record.config.0.labels)
}

/// Refuses an ID prefix that matches more than one object.
pub(crate) fn unambiguous<'a>(what: &str, prefix: &str, ids: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    if prefix.is_empty() {
        return Ok(());
    }
    let mut first = None;
    for id in ids {
        match first {
            None => first = Some(id),
            Some(other) if other != id && id != prefix && other != prefix => {
                return Err(Error::invalid(format_args!("{what} id {prefix:?} is ambiguous: {other} and {id}")));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_labels_have_to_match() {
        let has = HashMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let ready = v1::PodSandboxState::SandboxReady;
        let with = |id: &str, l: &[(&str, &str)]| v1::PodSandboxFilter {
            id: id.into(),
            label_selector: l.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Default::default()
        };
        assert!(fits(&with("ab", &[("a", "1")]), "abc", ready, &has));
        assert!(!fits(&with("ab", &[("a", "1"), ("b", "3")]), "abc", ready, &has));
        assert!(!fits(&with("b", &[]), "abc", ready, &has));
        let stopped = v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxNotready.into() };
        assert!(!fits(&v1::PodSandboxFilter { state: Some(stopped), ..with("ab", &[]) }, "abc", ready, &has));
    }

    #[test]
    fn an_ambiguous_prefix_is_refused() {
        assert!(unambiguous("container", "a", ["ab", "ac"].into_iter()).is_err());
        assert!(unambiguous("container", "a", ["ab", "ab"].into_iter()).is_ok());
        assert!(unambiguous("container", "", ["ab", "ac"].into_iter()).is_ok());
    }
}
