//! Resource limits, by their names in the OCI runtime specification.

use std::io;

use crate::error::{Doing, Error, Result, check};

#[cfg(target_env = "musl")]
type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

const NAMES: [(&str, Resource); 16] = [
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
];

/// A soft and a hard limit; `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What holds.
    pub soft: u64,
    /// Up to what the process may raise the soft one.
    pub hard: u64,
}

impl Limits {
    /// Reduced to what a process with the limits `now` may set without `CAP_SYS_RESOURCE`.
    #[must_use]
    pub fn clamp(self, now: Self) -> Self {
        let hard = self.hard.min(now.hard);
        Self { soft: self.soft.min(hard), hard }
    }
}

/// The calling process's limits of `name` (`RLIMIT_NOFILE` …).
pub fn get(name: &str) -> Result<Limits> {
    let resource = resource(name)?;
    let mut now = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid; 0 is the caller.
    let result = unsafe { libc::prlimit64(0, resource, std::ptr::null(), &raw mut now) };
    check(result.into()).doing(|| format!("read {name}"))?;
    Ok(Limits { soft: now.rlim_cur, hard: now.rlim_max })
}

/// Sets the calling process's limits of `name` as far as it may; returns what they are then.
pub fn set(name: &str, wanted: Limits) -> Result<Limits> {
    let resource = resource(name)?;
    let action = || format!("set {name} to {}:{}", wanted.soft, wanted.hard);
    let try_set = |limits: Limits| {
        let new = libc::rlimit64 { rlim_cur: limits.soft, rlim_max: limits.hard };
        // SAFETY: as in `get`.
        check(unsafe { libc::prlimit64(0, resource, &raw const new, std::ptr::null_mut()) }.into()).map(|_| limits)
    };
    match try_set(wanted) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            try_set(wanted.clamp(get(name)?)).doing(action)
        }
        result => result.doing(action),
    }
}

fn resource(name: &str) -> Result<Resource> {
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, resource)| *resource)
        .ok_or_else(|| Error::invalid(format!("set {name}"), "no such resource limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamped_to_the_hard_limit() {
        let now = Limits { soft: 10, hard: 100 };
        assert_eq!(Limits { soft: 500, hard: 1000 }.clamp(now), Limits { soft: 100, hard: 100 });
        assert_eq!(Limits { soft: 5, hard: 50 }.clamp(now), Limits { soft: 5, hard: 50 });
        let now = get("RLIMIT_NOFILE").expect("get");
        assert_eq!(set("RLIMIT_NOFILE", now).expect("set"), now);
        assert!(get("RLIMIT_PATIENCE").is_err());
    }
}
