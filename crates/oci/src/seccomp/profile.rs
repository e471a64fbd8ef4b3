//! Profiles that an administrator put on the node, for `Localhost`: the OCI runtime specification's `seccomp` object,
//! or the format of Docker's profiles, whose rules have conditions (capabilities, architecture, kernel).

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSyscall,
};
use serde::Deserialize;

use crate::error::{Error, Result};

/// A profile larger than this is a mistake.
const MAX_BYTES: usize = 4 << 20;

/// What conditions are decided by.
pub(crate) struct Host<'a> {
    /// The container's bounding set.
    pub capabilities: &'a Capabilities,
    /// As [`std::env::consts::ARCH`].
    pub architecture: &'a str,
    /// Major and minor version; (0, 0) means unknown and new enough.
    pub kernel: (u32, u32),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    caps: Option<Vec<Capability>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Conditions {
    fn included(&self, host: &Host<'_>) -> bool {
        self.caps.iter().flatten().all(|capability| host.capabilities.contains(capability))
            && self.arches.as_ref().is_none_or(|list| list.is_empty() || list.iter().any(|a| is_arch(a, host)))
            && self.min_kernel.as_deref().is_none_or(|minimum| at_least(host.kernel, minimum))
    }

    fn excluded(&self, host: &Host<'_>) -> bool {
        self.caps.iter().flatten().any(|capability| host.capabilities.contains(capability))
            || self.arches.iter().flatten().any(|a| is_arch(a, host))
            || self.min_kernel.as_deref().is_some_and(|minimum| at_least(host.kernel, minimum))
    }
}

/// Whether `name`, as Go and Docker spell architectures, is the host's.
fn is_arch(name: &str, host: &Host<'_>) -> bool {
    let rust = match name {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "x86",
        "ppc64le" => "powerpc64",
        other => other,
    };
    rust == host.architecture
}

fn at_least(kernel: (u32, u32), minimum: &str) -> bool {
    let mut numbers = minimum.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let minimum = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    kernel == (0, 0) || kernel >= minimum
}

/// Parses a profile. `field` is what errors name.
pub(crate) fn parse(field: &str, json: &[u8], host: &Host<'_>) -> Result<LinuxSeccomp> {
    if json.len() > MAX_BYTES {
        return Err(Error::TooLarge { field: field.to_owned(), actual: json.len(), limit: MAX_BYTES });
    }
    let file: File =
        serde_json::from_slice(json).map_err(|source| Error::Seccomp { field: field.to_owned(), source })?;
    let mut rules = Vec::new();
    for rule in file.syscalls.unwrap_or_default() {
        let names: Vec<String> = rule.names.into_iter().flatten().chain(rule.name).collect();
        if names.is_empty() {
            return Err(Error::invalid(field, "the seccomp profile has a rule without names"));
        }
        let applies = rule.includes.as_ref().is_none_or(|c| c.included(host))
            && !rule.excludes.as_ref().is_some_and(|c| c.excluded(host));
        if !applies {
            continue;
        }
        refuse_notify(field, rule.action)?;
        if rule.args.iter().flatten().any(|arg| arg.index() > 5) {
            return Err(Error::invalid(field, "the seccomp profile compares an argument after the sixth"));
        }
        let mut made = LinuxSyscall::default();
        made.set_names(names)
            .set_action(rule.action)
            .set_errno_ret(rule.errno_ret)
            .set_args(rule.args.filter(|args| !args.is_empty()));
        rules.push(made);
    }
    refuse_notify(field, file.default_action)?;
    if file.listener_path.is_some() {
        return Err(Error::unsupported(field, "the seccomp profile has a listener"));
    }
    let mapped = file.arch_map.iter().flatten().find_map(|map| {
        let native = super::default::architectures(host.architecture).first().copied();
        (Some(map.architecture) == native)
            .then(|| std::iter::once(map.architecture).chain(map.sub_architectures.iter().flatten().copied()).collect())
    });
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(file.default_action)
        .set_default_errno_ret(file.default_errno_ret)
        .set_architectures(file.architectures.filter(|list| !list.is_empty()).or(mapped))
        .set_flags(file.flags)
        .set_syscalls(Some(rules));
    Ok(profile)
}

/// Notifications need an agent that answers them; without one the container would hang.
fn refuse_notify(field: &str, action: LinuxSeccompAction) -> Result<()> {
    if action == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::unsupported(field, "the seccomp profile notifies a listener"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, capabilities: &[Capability]) -> Result<LinuxSeccomp> {
        let capabilities = capabilities.iter().copied().collect();
        parse("f", json.as_bytes(), &Host { capabilities: &capabilities, architecture: "x86_64", kernel: (6, 1) })
    }

    #[test]
    fn reads_the_oci_format_unchanged() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["chmod","mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":1,
             "args":[{"index":1,"value":2080505856,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        let want: LinuxSeccomp = serde_json::from_str(json).unwrap();
        assert_eq!(read(json, &[]).unwrap(), want);
    }

    #[test]
    fn applies_the_conditions_of_the_docker_format() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[
              {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
              {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[
            {"name":"a","action":"SCMP_ACT_ALLOW","args":[]},
            {"names":["b"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["c"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
            {"names":["e"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64","amd64"],"minKernel":"4.8"}},
            {"names":["f"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"7.0"}}]}"#;
        let names = |caps: &[Capability]| {
            let profile = read(json, caps).unwrap();
            assert_eq!(profile.architectures().clone().unwrap(), [Arch::ScmpArchX86_64, Arch::ScmpArchX86]);
            profile.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect::<String>()
        };
        assert_eq!(names(&[]), "ace");
        assert_eq!(names(&[Capability::SysAdmin]), "abe");
    }

    #[test]
    fn refuses_what_it_cannot_enforce() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#,
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ERRNO"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(read(bad, &[]).is_err(), "{bad}");
        }
    }
}
