//! Validated cgroup paths.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest path, so that every control file's full path stays under `PATH_MAX`.
const MAX_LEN: usize = 3000;

/// An absolute path below the root of a hierarchy: no `.`, `..` or empty component, no NUL, not the root itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// The text, starting with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The cgroup `name` directly below.
    pub fn child(&self, name: &str) -> Result<Self, Error> {
        check_name(name)?;
        format!("{}/{name}", self.0).parse()
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Where the cgroup is in the hierarchy mounted at `mount`.
    pub fn under(&self, mount: &Path) -> PathBuf {
        mount.join(&self.0[1..])
    }

    /// The path and its ancestors below the root, topmost first.
    pub(crate) fn chain(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0
            .match_indices('/')
            .skip(1)
            .map(|(at, _)| &self.0[..at])
            .chain([self.0.as_str()])
            .collect::<Vec<_>>()
            .into_iter()
    }
}

fn invalid(path: &str, why: &'static str) -> Error {
    Error::InvalidPath { path: path.chars().take(200).collect(), why }
}

/// Refuses what cannot be one component of a cgroup path.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name == "." || name == ".." {
        return Err(invalid(name, "empty, . and .. are no names"));
    }
    if name.len() > 255 {
        return Err(invalid(name, "a component is longer than 255 bytes"));
    }
    if name.bytes().any(|b| b == b'/' || b < b' ' || b == 0x7f) {
        return Err(invalid(name, "a component holds a slash or a control character"));
    }
    Ok(())
}

impl FromStr for CgroupPath {
    type Err = Error;

    /// Repeated and trailing slashes are dropped, as the kubelet's `cgroup_parent` may have them.
    fn from_str(s: &str) -> Result<Self, Error> {
        if !s.starts_with('/') {
            return Err(invalid(s, "not absolute"));
        }
        let mut clean = String::with_capacity(s.len());
        for part in s.split('/').filter(|p| !p.is_empty()) {
            check_name(part).map_err(|e| match e {
                Error::InvalidPath { why, .. } => invalid(s, why),
                other => other,
            })?;
            clean.push('/');
            clean.push_str(part);
        }
        if clean.is_empty() {
            return Err(invalid(s, "the root is not ours"));
        }
        if clean.len() > MAX_LEN {
            return Err(invalid(s, "longer than 3000 bytes"));
        }
        Ok(Self(clean))
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = Error;
    fn try_from(s: String) -> Result<Self, Error> {
        s.parse()
    }
}

impl From<CgroupPath> for String {
    fn from(p: CgroupPath) -> String {
        p.0
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CgroupPath({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_cleans() {
        let p: CgroupPath = "/kubepods//burstable/pod1/".parse().expect("valid");
        assert_eq!(p.as_str(), "/kubepods/burstable/pod1");
        assert_eq!(p.name(), "pod1");
        assert_eq!(p.child("abc").expect("valid").as_str(), "/kubepods/burstable/pod1/abc");
        assert_eq!(p.under(Path::new("/sys/fs/cgroup/cpu")), Path::new("/sys/fs/cgroup/cpu/kubepods/burstable/pod1"));
        assert_eq!(p.chain().collect::<Vec<_>>(), ["/kubepods", "/kubepods/burstable", "/kubepods/burstable/pod1"]);
    }

    #[test]
    fn refuses() {
        for bad in [
            "",
            "/",
            "//",
            "a/b",
            "/a/../b",
            "/a/./b",
            "/a\0b",
            "/a\nb",
            &format!("/{}", "x".repeat(256)),
            &"/x".repeat(1501),
        ] {
            assert!(bad.parse::<CgroupPath>().is_err(), "{bad:?}");
        }
        let p: CgroupPath = "/a".parse().expect("valid");
        for bad in ["", ".", "..", "x/y", "x\0"] {
            assert!(p.child(bad).is_err(), "{bad:?}");
        }
    }
}
