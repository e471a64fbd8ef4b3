//! Adjusts an OCI runtime specification; pure. What the specification cannot say is refused, never skipped.

mod linux;
mod mounts;
mod process;
mod resources;
mod security;

use cricket_oci::MountFacts;
use cricket_oci::oci_spec::runtime::Spec;
use serde::de::DeserializeOwned;

use crate::api::ContainerAdjustment;
use crate::error::{Error, Result};
use crate::merge::removal;

/// Puts CDI devices (fully qualified names) into a specification.
pub type Injector<'a> = dyn Fn(&mut Spec, &[String]) -> std::result::Result<(), String> + 'a;

/// What adjusting needs beside the specification.
pub struct Facts<'a> {
    /// The host's paths: a propagating mount needs a source that propagates.
    pub mounts: &'a dyn MountFacts,
    /// Resolves CDI devices, where the runtime can.
    pub cdi: Option<&'a Injector<'a>>,
}

/// Adjusts `spec`. On an error it is partly adjusted and not to be used.
pub fn apply(spec: &mut Spec, adjust: &ContainerAdjustment, facts: &Facts<'_>) -> Result<()> {
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    annotate(&mut annotations, &adjust.annotations);
    spec.set_annotations(Some(annotations));
    process::apply(spec, adjust)?;
    if !adjust.cdi_devices.is_empty() {
        let names: Vec<String> = adjust.cdi_devices.iter().map(|device| device.name.clone()).collect();
        let inject = facts.cdi.ok_or_else(|| Error::adjustment("CDI devices", "this runtime does not resolve them"))?;
        inject(spec, &names).map_err(|e| Error::adjustment("CDI devices", e))?;
    }
    if let Some(linux) = &adjust.linux {
        linux::apply(spec, linux)?;
    }
    mounts::apply(spec, &adjust.mounts, facts.mounts)
}

/// Sets and removes entries of a map: removals first, since what is set is meant to be there.
fn annotate<S: std::hash::BuildHasher>(
    map: &mut std::collections::HashMap<String, String, S>,
    asked: &std::collections::BTreeMap<String, String>,
) {
    for key in asked.keys().filter_map(|key| removal(key)) {
        map.remove(key);
    }
    let set = asked.iter().filter(|(key, _)| removal(key).is_none());
    map.extend(set.map(|(key, value)| (key.clone(), value.clone())));
}

/// A value that the specification spells as `name`.
fn named<T: DeserializeOwned>(field: &'static str, name: &str) -> Result<T> {
    serde_json::from_value(name.into()).map_err(|_| Error::adjustment(field, format_args!("{name:?} is not known")))
}

/// A part of the specification whose type has no setters.
fn part<T: DeserializeOwned>(field: &'static str, json: serde_json::Value) -> Result<T> {
    serde_json::from_value(json).map_err(|e| Error::adjustment(field, e))
}

#[cfg(test)]
#[path = "../apply_tests.rs"]
mod tests;
