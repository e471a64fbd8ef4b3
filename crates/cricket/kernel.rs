//! The oldest kernel that cricket is made for. Its interfaces are looked for one by one elsewhere; what a release stands
//! for beyond them (ID-mapped mounts, cgroup.kill, overlayfs without its old faults) can only be told by its number.

/// Linux 5.14.
const OLDEST: (u32, u32) = (5, 14);

/// The running kernel is too old.
#[derive(Debug, thiserror::Error)]
#[error("kernel {release}: cricket needs {}.{} or newer", OLDEST.0, OLDEST.1)]
pub(crate) struct TooOld {
    release: String,
}

/// The running kernel's release, as uname(2) says it.
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether a kernel of this release is new enough.
///
/// # Errors
/// [`TooOld`]; also when the release does not begin with two numbers.
pub(crate) fn check(release: &str) -> Result<(), TooOld> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version >= OLDEST {
        true => Ok(()),
        false => Err(TooOld { release: release.to_owned() }),
    }
}
