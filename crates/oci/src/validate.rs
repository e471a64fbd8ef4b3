//! Checks of whole requests before anything is recorded or made: names that end up in paths and files, bounds, values
//! outside the CRI definition's enumerations, and the combinations that it calls errors.

use std::collections::HashMap;

use cricket_cri_api::v1;

use crate::args::MAX_STRINGS;
use crate::error::{Error, Result, shown};
use crate::namespaces::{container_modes, sandbox_modes};
use crate::paths::clean_absolute;
use crate::signal::stop_signal;

/// Kubernetes' names are 253 characters at most; some test suites are more generous.
const MAX_NAME: usize = 1024;
/// Labels or annotations of an object together; Kubernetes allows 256 KiB.
const MAX_MAP: usize = 4 << 20;
/// HOST_NAME_MAX.
const MAX_HOSTNAME: usize = 64;

/// Checks what CreateContainer is given.
///
/// # Errors
/// Names the field.
pub fn validate_container(config: &v1::ContainerConfig, sandbox: &v1::PodSandboxConfig) -> Result<()> {
    let metadata = config.metadata.as_ref().ok_or_else(|| Error::invalid("metadata", "is missing"))?;
    name("metadata.name", &metadata.name)?;
    let image = config.image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
    if image.is_empty() {
        return Err(Error::invalid("image", "is missing"));
    }
    log_path(&config.log_path)?;
    map("labels", &config.labels)?;
    map("annotations", &config.annotations)?;
    for (field, count) in [
        ("envs", config.envs.len()),
        ("command", config.command.len()),
        ("args", config.args.len()),
        ("mounts", config.mounts.len()),
        ("devices", config.devices.len()),
        ("cdi_devices", config.cdi_devices.len()),
    ] {
        if count > MAX_STRINGS {
            return Err(Error::TooLarge { field: field.into(), actual: count, limit: MAX_STRINGS });
        }
    }
    if !config.working_dir.is_empty() {
        clean_absolute("working_dir", &config.working_dir)?;
    }
    for mount in &config.mounts {
        v1::MountPropagation::try_from(mount.propagation)
            .map_err(|_| Error::invalid("mounts.propagation", format!("{} is not a mode", mount.propagation)))?;
    }
    crate::mounted_images(config)?;
    stop_signal(config, &Default::default())?;
    container_modes(config, sandbox)?;
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    if context.is_some_and(|context| context.privileged) && !sandbox_privileged(sandbox) {
        return Err(Error::invalid("linux.security_context.privileged", "is set in a sandbox that is not privileged"));
    }
    Ok(())
}

/// Whether a sandbox allows privileged containers.
fn sandbox_privileged(sandbox: &v1::PodSandboxConfig) -> bool {
    let context = sandbox.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.is_some_and(|context| context.privileged)
}

/// Checks what RunPodSandbox is given.
///
/// # Errors
/// Names the field.
pub fn validate_sandbox(config: &v1::PodSandboxConfig) -> Result<()> {
    let metadata = config.metadata.as_ref().ok_or_else(|| Error::invalid("metadata", "is missing"))?;
    name("metadata.name", &metadata.name)?;
    name("metadata.namespace", &metadata.namespace)?;
    if !metadata.uid.is_empty() {
        name("metadata.uid", &metadata.uid)?;
    }
    map("labels", &config.labels)?;
    map("annotations", &config.annotations)?;
    hostname(&config.hostname)?;
    if !config.log_directory.is_empty() {
        directory("log_directory", &config.log_directory)?;
    }
    if let Some(dns) = &config.dns_config {
        dns_lines("dns_config.servers", &dns.servers)?;
        dns_lines("dns_config.searches", &dns.searches)?;
        dns_lines("dns_config.options", &dns.options)?;
    }
    for mapping in &config.port_mappings {
        v1::Protocol::try_from(mapping.protocol)
            .map_err(|_| Error::invalid("port_mappings.protocol", format!("{} is not one", mapping.protocol)))?;
        for (field, port) in
            [("port_mappings.container_port", mapping.container_port), ("port_mappings.host_port", mapping.host_port)]
        {
            if port > i32::from(u16::MAX) {
                return Err(Error::invalid(field, format!("{port} is not a port")));
            }
        }
    }
    let Some(linux) = &config.linux else { return Ok(()) };
    if !linux.cgroup_parent.is_empty() {
        let parent = &linux.cgroup_parent;
        if parent.split('/').any(|part| part == "..") || parent.chars().any(char::is_control) || parent.len() > 4096 {
            return Err(Error::invalid("linux.cgroup_parent", format!("{} is not a cgroup", shown(parent))));
        }
    }
    if let Some(context) = &linux.security_context
        && context.run_as_group.is_some()
        && context.run_as_user.is_none()
    {
        return Err(Error::invalid("linux.security_context.run_as_group", "is given without run_as_user"));
    }
    crate::sandbox_sysctls(config)?;
    sandbox_modes(config).map(|_| ())
}

/// Names become parts of paths, log lines and environment: no slash, no control character, not a dot or two.
fn name(field: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(field, "is empty"));
    }
    if text.len() > MAX_NAME {
        return Err(Error::TooLarge { field: field.into(), actual: text.len(), limit: MAX_NAME });
    }
    if text == "." || text == ".." || text.contains('/') || text.chars().any(char::is_control) {
        return Err(Error::invalid(field, format!("{} is not a name", shown(text))));
    }
    Ok(())
}

/// Relative to the sandbox's log directory and below it.
fn log_path(path: &str) -> Result<()> {
    let leaves = path.starts_with('/') || path.split('/').any(|part| part == "..");
    if leaves || path.len() >= 4096 || path.chars().any(char::is_control) || (!path.is_empty() && path.ends_with('/')) {
        return Err(Error::invalid("log_path", format!("{} is not a file below the log directory", shown(path))));
    }
    Ok(())
}

fn directory(field: &str, path: &str) -> Result<()> {
    clean_absolute(field, path)?;
    if path.split('/').any(|part| part == "..") || path.chars().any(char::is_control) {
        return Err(Error::invalid(field, format!("{} is not a plain absolute path", shown(path))));
    }
    Ok(())
}

/// It is written to a file of one line and given to sethostname(2).
fn hostname(text: &str) -> Result<()> {
    let fine = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !fine || text.len() > MAX_HOSTNAME {
        return Err(Error::invalid("hostname", format!("{} is not a host's name", shown(text))));
    }
    Ok(())
}

/// Each becomes a word of resolv.conf(5).
fn dns_lines(field: &str, words: &[String]) -> Result<()> {
    match words.iter().find(|word| word.is_empty() || word.chars().any(|c| c.is_whitespace() || c.is_control())) {
        Some(word) => Err(Error::invalid(field, format!("{} is not one word", shown(word)))),
        None => Ok(()),
    }
}

fn map(field: &str, map: &HashMap<String, String>) -> Result<()> {
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_MAP {
        return Err(Error::TooLarge { field: field.into(), actual: bytes, limit: MAX_MAP });
    }
    Ok(())
}
