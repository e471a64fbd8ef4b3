//! The validator that is built in: what plugins may not adjust, and plugins that have to be there.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::security_profile::ProfileType;
use crate::api::{Field, PodSandbox, ValidateContainerAdjustmentRequest};
use crate::config::Validator;
use crate::yaml;

/// Its name in errors.
pub(crate) const NAME: &str = "default-validator";
/// Pods name the plugins they need in this annotation (or with `/container.NAME` or `/pod` appended), as a YAML list.
const REQUIRED: &str = "required-plugins.noderesource.dev";

/// Says why the adjustments are not allowed, if they are not.
pub(crate) fn validate(config: &Validator, request: &ValidateContainerAdjustmentRequest) -> Result<(), String> {
    let Some(container) = &request.container else { return Ok(()) };
    let owners = request.owners.as_ref().and_then(|owners| owners.owners.get(&container.id));
    let simple = |field: Field| owners.and_then(|owners| owners.simple.get(&i32::from(field)));
    let compound = |field: Field| owners.and_then(|o| o.compound.get(&i32::from(field))).map(|c| &c.owners);
    if config.reject_oci_hook_adjustment
        && let Some(plugins) = simple(Field::OciHooks)
    {
        return Err(format!("{plugins} may not add OCI hooks"));
    }
    if let Some(plugin) = simple(Field::SeccompPolicy) {
        let profile = container.linux.as_ref().and_then(|linux| linux.seccomp_profile.as_ref());
        let (rejected, kind) = match profile.map_or(ProfileType::Unconfined, |profile| profile.profile_type()) {
            ProfileType::Unconfined => (config.reject_unconfined_seccomp_adjustment, "an unconfined container"),
            ProfileType::RuntimeDefault => (config.reject_runtime_default_seccomp_adjustment, "the runtime's default"),
            ProfileType::Localhost => (config.reject_custom_seccomp_adjustment, "the pod's own"),
        };
        if rejected {
            return Err(format!("{plugin} may not adjust the seccomp policy of {kind}"));
        }
    }
    if config.reject_namespace_adjustment
        && let Some(owners) = compound(Field::Namespace)
    {
        return Err(format!("namespaces may not be adjusted: {}", listed(owners)));
    }
    required(config, request)?;
    if config.reject_sysctl_adjustment
        && let Some(owners) = compound(Field::Sysctl)
    {
        return Err(format!("sysctls may not be adjusted: {}", listed(owners)));
    }
    Ok(())
}

fn listed(owners: &BTreeMap<String, String>) -> String {
    let each: Vec<_> = owners.iter().map(|(entry, plugin)| format!("{entry} by {plugin}")).collect();
    each.join(", ")
}

fn required(config: &Validator, request: &ValidateContainerAdjustmentRequest) -> Result<(), String> {
    let container = request.container.as_ref().map(|container| container.name.as_str()).unwrap_or_default();
    let pod = request.pod.as_ref();
    let tolerate = &config.tolerate_missing_plugins_annotation;
    if !tolerate.is_empty()
        && let Some(value) = effective(pod, tolerate, container)
    {
        match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => return Ok(()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => {}
            other => return Err(format!("annotation {tolerate}: {other:?} is neither true nor false")),
        }
    }
    let mut wanted = config.required_plugins.clone();
    if let Some(value) = effective(pod, REQUIRED, container) {
        let names =
            yaml::strings(value).ok_or_else(|| format!("annotation {REQUIRED}: {value:?} is no list of names"))?;
        wanted.extend(names);
    }
    let there: BTreeSet<String> = request
        .plugins
        .iter()
        .flat_map(|plugin| [plugin.name.clone(), format!("{}-{}", plugin.index, plugin.name)])
        .collect();
    let missing: Vec<_> = wanted.into_iter().filter(|name| !there.contains(name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("required plugins are not there: {}", missing.join(", "))) }
}

/// A pod's annotation as it applies to one container.
fn effective<'a>(pod: Option<&'a PodSandbox>, key: &str, container: &str) -> Option<&'a str> {
    let annotations = &pod?.annotations;
    let keys = [format!("{key}/container.{container}"), format!("{key}/pod"), key.to_owned()];
    keys.iter().find_map(|key| annotations.get(key)).map(String::as_str)
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
