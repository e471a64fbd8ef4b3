//! Filters of the list RPCs: an ID or an unambiguous prefix of one, a state, labels that must all match.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_pod::Error;

fn labels(wanted: &HashMap<String, String>, has: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(k, v)| has.get(k) == Some(v))
}

/// Whether the filter lets this sandbox through.
pub(crate) fn sandbox(filter: &v1::PodSandboxFilter, item: &v1::PodSandbox) -> bool {
    item.id.starts_with(&filter.id)
        && filter.state.as_ref().is_none_or(|s| s.state == item.state)
        && labels(&filter.label_selector, &item.labels)
}

/// Whether the filter lets this container through.
pub(crate) fn container(filter: &v1::ContainerFilter, item: &v1::Container) -> bool {
    item.id.starts_with(&filter.id)
        && item.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|s| s.state == item.state)
        && labels(&filter.label_selector, &item.labels)
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
        let item = v1::PodSandbox {
            id: "abc".into(),
            labels: HashMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
            ..Default::default()
        };
        let with = |id: &str, l: &[(&str, &str)]| v1::PodSandboxFilter {
            id: id.into(),
            label_selector: l.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Default::default()
        };
        assert!(sandbox(&with("ab", &[("a", "1")]), &item));
        assert!(!sandbox(&with("ab", &[("a", "1"), ("b", "3")]), &item));
        assert!(!sandbox(&with("b", &[]), &item));
    }

    #[test]
    fn an_ambiguous_prefix_is_refused() {
        assert!(unambiguous("container", "a", ["ab", "ac"].into_iter()).is_err());
        assert!(unambiguous("container", "a", ["ab", "ab"].into_iter()).is_ok());
        assert!(unambiguous("container", "", ["ab", "ac"].into_iter()).is_ok());
    }
}
