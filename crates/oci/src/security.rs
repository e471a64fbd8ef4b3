//! Mandatory access control and hidden paths: AppArmor, SELinux, masked and read-only paths. What this host cannot
//! enforce is refused, never skipped.

use cricket_cri_api::v1;
use cricket_cri_api::v1::security_profile::ProfileType;

use crate::error::{Error, Result, shown};
use crate::input::HostFacts;
use crate::paths::clean_absolute;
use crate::selinux::{self, SelinuxLabels};

const APPARMOR: &str = "linux.security_context.apparmor";

/// What containers must not read: containerd's list.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What they must not write.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `process.apparmorProfile`: the one asked for; the node's default one where none is named and the host has one, as
/// containerd does (kubernetes#51746). `None`: unconfined.
pub(crate) fn apparmor(context: &v1::LinuxContainerSecurityContext, host: &HostFacts) -> Result<Option<String>> {
    #[allow(deprecated, reason = "older kubelets send only this field")]
    let old = context.apparmor_profile.as_str();
    let (kind, name) = match &context.apparmor {
        Some(profile) => match ProfileType::try_from(profile.profile_type) {
            Ok(kind) => (Some(kind), profile.localhost_ref.as_str()),
            Err(_) => {
                return Err(Error::invalid(APPARMOR, format!("{} is not a profile type", profile.profile_type)));
            }
        },
        None => match old {
            "" => (None, ""),
            "runtime/default" => (Some(ProfileType::RuntimeDefault), ""),
            "unconfined" => (Some(ProfileType::Unconfined), ""),
            other if other.starts_with("localhost/") => (Some(ProfileType::Localhost), other),
            other => return Err(Error::invalid(APPARMOR, format!("no AppArmor profile is called {}", shown(other)))),
        },
    };
    if kind == Some(ProfileType::Unconfined) {
        return Ok(None);
    }
    if kind != Some(ProfileType::Localhost) {
        if kind.is_some() && host.apparmor_enabled && host.apparmor_default.is_none() && !context.privileged {
            return Err(Error::host(
                APPARMOR,
                "the default profile could not be loaded when the runtime started".to_owned(),
            ));
        }
        // A privileged container is unconfined unless it names a profile.
        return Ok(host.apparmor_default.clone().filter(|_| !context.privileged));
    }
    let wanted = name.strip_prefix("localhost/").unwrap_or(name);
    if wanted.is_empty() || wanted.chars().any(char::is_control) {
        return Err(Error::invalid(APPARMOR, format!("{} is not a profile's name", shown(wanted))));
    }
    if !host.apparmor_enabled {
        return Err(Error::host(APPARMOR, format!("AppArmor is not enabled, profile {} wanted", shown(wanted))));
    }
    Ok(Some(wanted.to_owned()))
}

/// The SELinux labels of the process and of the files. A privileged container has the process label that it names, if
/// any: else the policy says what becomes of what the runtime executes.
pub(crate) fn selinux(
    context: &v1::LinuxContainerSecurityContext,
    labels: Option<&SelinuxLabels>,
) -> Result<(Option<String>, Option<String>)> {
    let options = context.selinux_options.as_ref();
    selinux::check(options)?;
    let Some(labels) = labels else {
        return match selinux::asks_for_confinement(options) {
            true => Err(Error::host(selinux::FIELD, "SELinux is not enabled, or enable_selinux is not set")),
            false => Ok((None, None)),
        };
    };
    let named = options.is_some_and(|options| !options.r#type.is_empty());
    let process = (!context.privileged || named).then(|| labels.process.to_string());
    Ok((process, Some(labels.files.to_string())))
}

/// Masked and read-only paths: none for privileged containers, else the request's, else the defaults.
pub(crate) fn hidden_paths(context: &v1::LinuxContainerSecurityContext) -> Result<(Vec<String>, Vec<String>)> {
    if context.privileged {
        return Ok((Vec::new(), Vec::new()));
    }
    let list = |field: &str, given: &[String], default: &[&str]| -> Result<Vec<String>> {
        for path in given {
            clean_absolute(field, path)?;
        }
        Ok(if given.is_empty() { default.iter().map(|path| (*path).to_owned()).collect() } else { given.to_vec() })
    };
    Ok((
        list("linux.security_context.masked_paths", &context.masked_paths, &MASKED)?,
        list("linux.security_context.readonly_paths", &context.readonly_paths, &READONLY)?,
    ))
}
