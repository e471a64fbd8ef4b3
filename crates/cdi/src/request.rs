//! What a container asks for: the request's field, and annotations, which device plugins used before there was one.

use std::collections::{BTreeMap, HashMap};

use cricket_cri_api::v1;

use crate::error::{Error, Result};
use crate::name::QualifiedName;

/// How the keys of such annotations begin; the values are names separated by commas (pkg/cdi/annotations.go).
pub const ANNOTATION_PREFIX: &str = "cdi.k8s.io/";

/// The qualified names, each once: the field's in its order, then the annotations' in the order of their keys.
///
/// # Errors
/// When one of them is no name of a device.
pub fn requested<S: std::hash::BuildHasher>(
    field: &[v1::CdiDevice],
    annotations: &HashMap<String, String, S>,
) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut add = |name: &str| {
        if seen.insert(name.to_owned()) {
            names.push(name.to_owned());
        }
    };
    for device in field {
        QualifiedName::parse(&device.name).map_err(Error::Field)?;
        add(&device.name);
    }
    let ours: BTreeMap<_, _> = annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX)).collect();
    for (key, value) in ours {
        for name in value.split(',') {
            QualifiedName::parse(name).map_err(|source| Error::Annotation { key: key.clone(), source })?;
            add(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_first_then_annotations_each_once() {
        let device = |name: &str| v1::CdiDevice { name: name.into() };
        let annotations: HashMap<String, String> = [
            ("cdi.k8s.io/b", "v/c=2,v/c=1"),
            ("cdi.k8s.io/a", "v/c=3"),
            ("example.com/cdi.k8s.io/", "no device"),
            ("cdi.k8s.iox/a", "no device"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        let names = requested(&[device("v/c=1"), device("v/c=0"), device("v/c=1")], &annotations).unwrap();
        assert_eq!(names, ["v/c=1", "v/c=0", "v/c=3", "v/c=2"]);
    }

    #[test]
    fn errors_name_where_the_name_is() {
        let annotations = |value: &str| HashMap::from([("cdi.k8s.io/x".to_owned(), value.to_owned())]);
        for value in ["", "v/c", "v/c=1,", "v/c=1, v/c=2"] {
            let error = requested(&[], &annotations(value)).unwrap_err().to_string();
            assert!(error.starts_with("annotation cdi.k8s.io/x: \""), "{error}");
        }
        let error = requested(&[v1::CdiDevice { name: "/dev/x".into() }], &annotations("v/c=1")).unwrap_err();
        assert!(error.to_string().starts_with("cdi_devices: \"/dev/x\" is no device"), "{error}");
    }
}
