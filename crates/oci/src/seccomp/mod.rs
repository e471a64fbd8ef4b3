//! Which seccomp filter a container gets. Privileged containers get none; one that asks for nothing gets the handler's
//! `unset_seccomp_profile`, which is none unless configured.

mod default;
mod profile;
mod table;

use std::path::PathBuf;

use cricket_cri_api::v1;
use cricket_cri_api::v1::security_profile::ProfileType;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

pub use default::default_profile;
pub(crate) use profile::{Host, parse as parse_profile};

use crate::error::{Error, Result, shown};
use crate::input::ContainerInput;

const FIELD: &str = "linux.security_context.seccomp";
const PATH_FIELD: &str = "linux.security_context.seccomp_profile_path";

/// What a request comes down to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Unconfined,
    RuntimeDefault,
    Localhost { field: &'static str, path: String },
}

/// A profile in the old string form.
fn from_string(field: &'static str, text: &str) -> Result<Wanted> {
    match text {
        "" | "unconfined" => Ok(Wanted::Unconfined),
        "runtime/default" | "docker/default" => Ok(Wanted::RuntimeDefault),
        other => match other.strip_prefix("localhost/") {
            Some(path) => Ok(Wanted::Localhost { field, path: path.to_owned() }),
            None => Err(Error::invalid(field, format!("no seccomp profile is called {}", shown(other)))),
        },
    }
}

fn wanted(config: &v1::ContainerConfig, unset: &str) -> Result<Wanted> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let Some(context) = context else { return from_string("unset_seccomp_profile", unset) };
    if context.privileged {
        return Ok(Wanted::Unconfined);
    }
    #[allow(deprecated, reason = "older kubelets send only this field")]
    let old = context.seccomp_profile_path.as_str();
    match &context.seccomp {
        Some(profile) => match ProfileType::try_from(profile.profile_type) {
            Ok(ProfileType::RuntimeDefault) => Ok(Wanted::RuntimeDefault),
            Ok(ProfileType::Unconfined) => Ok(Wanted::Unconfined),
            Ok(ProfileType::Localhost) => Ok(Wanted::Localhost { field: FIELD, path: profile.localhost_ref.clone() }),
            Err(_) => Err(Error::invalid(FIELD, format!("{} is not a profile type", profile.profile_type))),
        },
        None if old.is_empty() => from_string("unset_seccomp_profile", unset),
        None => from_string(PATH_FIELD, old),
    }
}

/// The host path of the Localhost profile a container asks for, which the caller reads (bounded) for
/// [`ContainerInput::localhost_seccomp`]. `unset_profile` is the handler's
/// [`crate::SpecOptions::unset_seccomp_profile`].
///
/// # Errors
/// When it is not an absolute path, or the request names no profile that exists.
pub fn localhost_seccomp_path(config: &v1::ContainerConfig, unset_profile: &str) -> Result<Option<PathBuf>> {
    match wanted(config, unset_profile)? {
        Wanted::Localhost { field, path } => {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(Error::invalid(field, format!("{} is not an absolute path", shown(&path))));
            }
            Ok(Some(PathBuf::from(path)))
        }
        _ => Ok(None),
    }
}

/// The filter of a container with this bounding set.
pub(crate) fn filter(input: &ContainerInput<'_>, capabilities: &Capabilities) -> Result<Option<LinuxSeccomp>> {
    let wanted = wanted(input.config, &input.handler.unset_seccomp_profile)?;
    if wanted != Wanted::Unconfined && !input.host.seccomp_supported {
        return Err(Error::host(FIELD, "the kernel has no seccomp filters"));
    }
    let architecture = std::env::consts::ARCH;
    match wanted {
        Wanted::Unconfined => Ok(None),
        Wanted::RuntimeDefault => Ok(Some(default_profile(capabilities, architecture))),
        Wanted::Localhost { field, .. } => {
            localhost_seccomp_path(input.config, &input.handler.unset_seccomp_profile)?;
            let json = input.localhost_seccomp.ok_or(Error::Missing("the content of the seccomp profile"))?;
            let host = Host { capabilities, architecture, kernel: input.host.kernel };
            parse_profile(field, json, &host).map(Some)
        }
    }
}
