//! AppArmor on the daemon's side: loads the default profile, knows which profiles the kernel has.
//!
//! The kernel takes compiled policy only, so the host's `apparmor_parser`(8) does the loading; without it there is no
//! default profile, but profiles that others loaded can be used.

use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use cricket_oci::oci_spec::runtime::Spec;

use crate::error::{Error, Result};

/// The default profile's name in the kernel.
pub const DEFAULT_PROFILE: &str = "cricket-default";

const TEXT: &str = include_str!("default.profile");
/// `NAME (MODE)` a line; securityfs has to be mounted.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// Where distributions install it, which a service's PATH need not name.
const PARSERS: [&str; 4] =
    ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser", "/bin/apparmor_parser"];

/// Why there is no default profile.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The host has no parser.
    #[error("apparmor_parser is not installed")]
    NoParser,
    /// It could not be run.
    #[error("run {0}")]
    Run(PathBuf, #[source] io::Error),
    /// It refused.
    #[error("{0}: {1}")]
    Refused(PathBuf, String),
}

/// Loads the default profile, in place of one of that name: another version may have other rules. Blocks for some
/// hundred milliseconds the first time.
///
/// # Errors
/// See [`LoadError`].
pub fn load_default() -> std::result::Result<(), LoadError> {
    // Its cache would have to be kept apart from the distribution's.
    parse(&["--replace", "--skip-cache"])
}

fn parse(options: &[&str]) -> std::result::Result<(), LoadError> {
    let parser = PARSERS.iter().map(PathBuf::from).find(|p| p.is_file()).ok_or(LoadError::NoParser)?;
    let failed = |error| LoadError::Run(parser.clone(), error);
    let mut child = Command::new(&parser)
        .args(options)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let profile = TEXT.replace("{name}", DEFAULT_PROFILE);
    // A parser that ends early says why on standard error.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(profile.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let text: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(1000).collect();
        return Err(LoadError::Refused(parser, format!("{} ({text})", output.status)));
    }
    written.map_err(failed)
}

/// Refuses a specification whose profile the kernel does not have: the process would fail only at its start, with less to
/// say.
pub(crate) fn check(spec: &Spec) -> Result<()> {
    let Some(profile) = spec.process().as_ref().and_then(|p| p.apparmor_profile().as_deref()) else { return Ok(()) };
    match is_loaded(profile) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(Error::invalid(format_args!("apparmor profile not found: {profile:?} is not loaded on this host")))
        }
        Err(e) => Err(Error::internal(format_args!("read {LOADED}"), &e)),
    }
}

/// Whether the kernel has a profile of that name; a namespace's are `:NAMESPACE:NAME` or `:NAMESPACE://NAME` in requests
/// and are left to the kernel to judge.
///
/// # Errors
/// When the list cannot be read.
fn is_loaded(name: &str) -> io::Result<bool> {
    if name.starts_with(':') {
        return Ok(true);
    }
    find(BufReader::new(fs::File::open(Path::new(LOADED))?), name)
}

fn find(list: impl io::BufRead, name: &str) -> io::Result<bool> {
    for line in list.lines() {
        // Names may have blanks; the mode is the last word, in brackets.
        if line?.rsplit_once(" (").is_some_and(|(loaded, mode)| loaded == name && mode.ends_with(')')) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_compiles() {
        match parse(&["--skip-kernel-load", "--skip-cache"]) {
            // Nothing to compile it with; the daemon then says so.
            Err(LoadError::NoParser) => eprintln!("no apparmor_parser here"),
            result => result.expect("compile"),
        }
    }

    #[test]
    fn names_are_compared_whole() {
        let list = "cricket-default (enforce)\n/usr/bin/man (complain)\na b (unconfined)\n";
        let loaded = |name: &str| find(list.as_bytes(), name).expect("read");
        assert!(loaded("cricket-default") && loaded("/usr/bin/man") && loaded("a b"));
        assert!(!loaded("cricket") && !loaded("cricket-default (enforce)") && !loaded(""));
    }
}
