//! What the fuzz targets call of this crate's private parsers. Not part of its interface.

use cricket_cri_api::v1;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

use crate::error::Result;
use crate::output::ResolvedUser;
use crate::passwd;
use crate::seccomp::{Host, parse_profile};
use crate::user::{Files, resolve};

/// Who a container runs as that says nothing, by its image's USER and files.
///
/// # Errors
/// What is wrong with the image.
pub fn user(user: &str, passwd: Option<&[u8]>, group: Option<&[u8]>) -> Result<ResolvedUser> {
    resolve(&v1::LinuxContainerSecurityContext::default(), user, &Files { passwd, group })
}

/// Names, IDs, group IDs and home directories of a passwd file.
pub fn accounts(file: &[u8]) -> Vec<(&[u8], u32, u32, &[u8])> {
    passwd::accounts(file).map(|a| (a.name, a.uid, a.gid, a.home)).collect()
}

/// Names and IDs of a group file, and whether `user` is a member.
pub fn groups<'a>(file: &'a [u8], user: &[u8]) -> Vec<(&'a [u8], u32, bool)> {
    passwd::groups(file).map(|g| (g.name, g.gid, g.has_member(user))).collect()
}

/// A seccomp profile of the node for a container with `capabilities`.
///
/// # Errors
/// What is wrong with it.
pub fn seccomp(json: &[u8], capabilities: &Capabilities, kernel: (u32, u32)) -> Result<LinuxSeccomp> {
    parse_profile("profile", json, &Host { capabilities, architecture: std::env::consts::ARCH, kernel })
}
