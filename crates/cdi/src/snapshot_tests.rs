use std::path::Path;
use std::sync::Arc;

use cricket_model::{ErrorKind, Kinded as _};
use cricket_oci::oci_spec::runtime::Spec;
use proptest::prelude::*;

use super::{Directory, Snapshot};
use crate::apply::tests::host;
use crate::model::{Device, Edits, Specification};

fn file(kind: &str, devices: &[&str], mark: &str) -> Specification {
    let edits = |name: &str| Edits { env: vec![format!("{name}={mark}")], ..Edits::default() };
    let device = |name: &&str| Device { name: (*name).into(), container_edits: edits(name), ..Device::default() };
    Specification {
        cdi_version: "0.6.0".into(),
        kind: kind.into(),
        devices: devices.iter().map(device).collect(),
        container_edits: Edits { additional_gids: vec![7], ..edits("ALL") },
        ..Specification::default()
    }
}

fn directory(path: &str, files: Vec<(&str, Specification)>) -> Directory {
    let file = |(name, spec)| (Path::new(path).join(name), Arc::new(Ok(spec)));
    Directory { path: path.into(), files: files.into_iter().map(file).collect(), error: None }
}

fn env(spec: &Spec) -> Vec<String> {
    let env = spec.process().as_ref().unwrap().env().clone().unwrap();
    env.into_iter().filter(|v| !v.starts_with("PATH=") && !v.starts_with("TERM=")).collect()
}

#[test]
fn what_a_file_says_for_all_is_done_once() {
    let snapshot = Snapshot { directories: vec![directory("/d", vec![("f", file("v/c", &["a", "b"], "1"))])] };
    let mut spec = Spec::default();
    snapshot.inject(&mut spec, &["v/c=b".into(), "v/c=a".into()], &host()).unwrap();
    assert_eq!(env(&spec), ["ALL=1", "b=1", "a=1"]);
    assert_eq!(spec.process().as_ref().unwrap().user().additional_gids(), &Some(vec![7]));
}

#[test]
fn every_missing_device_is_named_with_where_it_was_looked_for() {
    let snapshot = Snapshot {
        directories: vec![
            directory("/one", vec![("f", file("v/c", &["a", "x"], "1")), ("g", file("v/c", &["x"], "2"))]),
            Directory { path: "/two".into(), error: Some("permission denied".into()), ..Directory::default() },
        ],
    };
    let names = ["v/c=a", "v/c=b", "v/c=x", "w/c=a", "nonsense"].map(str::to_owned);
    let error = snapshot.inject(&mut Spec::default(), &names, &host()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert_eq!(
        error.to_string(),
        "unresolvable CDI devices v/c=b, v/c=x, w/c=a, nonsense: not in /one, /two; v/c=x is in both /one/f and /one/g; \
         not usable: /two (permission denied)"
    );
    let none = Snapshot { directories: Vec::new() };
    let error = none.inject(&mut Spec::default(), &["v/c=b".into()], &host()).unwrap_err().to_string();
    assert!(error.ends_with("no directory is configured (cdi_spec_dirs)"), "{error}");
}

proptest! {
    /// Against the rule said another way: the last directory with the name decides; it has to have it once.
    #[test]
    fn precedence(layout in prop::collection::vec(prop::collection::vec(prop::collection::btree_set("[abc]", 1..3), 0..3), 0..4)) {
        let directories = layout.iter().enumerate().map(|(d, files)| {
            let files: Vec<(String, Specification)> = files.iter().enumerate().map(|(f, devices)| {
                let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
                (format!("f{f}"), file("v/c", &devices, &format!("{d}{f}")))
            }).collect();
            directory(&format!("/{d}"), files.iter().map(|(name, spec)| (name.as_str(), spec.clone())).collect())
        });
        let snapshot = Snapshot { directories: directories.collect() };
        for name in ["a", "b", "c"] {
            let mut having = layout.iter().enumerate().map(|(d, files)| {
                let with: Vec<String> = files.iter().enumerate().filter(|(_, devices)| devices.contains(name))
                    .map(|(f, _)| format!("{d}{f}")).collect();
                with
            }).filter(|with| !with.is_empty()).collect::<Vec<_>>();
            let mut spec = Spec::default();
            let result = snapshot.inject(&mut spec, &[format!("v/c={name}")], &host());
            match having.pop().as_deref() {
                Some([one]) => {
                    prop_assert!(result.is_ok());
                    let made = format!("{name}={one}");
                    prop_assert!(env(&spec).contains(&made));
                }
                Some(_) => prop_assert!(result.unwrap_err().to_string().contains("is in both")),
                None => prop_assert!(!result.unwrap_err().to_string().contains("is in both")),
            }
        }
    }
}
