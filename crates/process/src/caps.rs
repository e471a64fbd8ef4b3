//! Capabilities: names, and the sets of the calling thread.

use std::fmt;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use crate::error::{Doing, Result};

/// Every capability this release knows, in the kernel's numbering (linux/capability.h).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set(u64);

impl Set {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// From a mask as in `/proc/PID/status`.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The mask.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// From names such as `CAP_CHOWN`; also returns those that are none.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> (Self, Vec<String>) {
        let (mut set, mut unknown) = (0, Vec::new());
        for name in names {
            match number(name.as_ref()) {
                Some(number) => set |= 1 << number,
                None => unknown.push(name.as_ref().to_owned()),
            }
        }
        (Self(set), unknown)
    }

    /// The names, in the kernel's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(number, _)| self.0 & (1 << number) != 0).map(|(_, name)| *name)
    }

    /// Those in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of this set that the other one lacks.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The kernel's number of a name such as `CAP_CHOWN`.
pub fn number(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).map(|number| number as u32)
}

/// The bounding set of the calling thread: what it and its children can ever get.
pub fn bounding() -> Result<Set> {
    bounding_among(Set((1 << NAMES.len()) - 1))
}

/// Those of `some` that are in the bounding set; each costs a system call.
fn bounding_among(some: Set) -> Result<Set> {
    let mut set = 0;
    for number in (0..64).filter(|number| some.0 & (1 << number) != 0) {
        match capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(true) => set |= 1 << number,
            Ok(false) => {}
            // A kernel that does not know this one knows none after it.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error).doing(|| "read the capability bounding set"),
        }
    }
    Ok(Set(set))
}

/// Reduces `wanted` to what this process can give; also returns what was left out.
pub fn clamp(wanted: Set) -> Result<(Set, Set)> {
    let possible = bounding_among(wanted)?;
    Ok((wanted.intersection(possible), wanted.difference(possible)))
}

/// The sets of a process, from the text of its `/proc/PID/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    /// Inheritable.
    pub inheritable: Set,
    /// Permitted.
    pub permitted: Set,
    /// Effective.
    pub effective: Set,
    /// Bounding.
    pub bounding: Set,
    /// Ambient.
    pub ambient: Set,
}

impl Sets {
    /// `None` when a line is missing.
    pub fn parse_status(status: &str) -> Option<Self> {
        let line = |name: &str| {
            let hex = status.lines().find_map(|line| line.strip_prefix(name))?.trim();
            u64::from_str_radix(hex, 16).ok().map(Set)
        };
        Some(Self {
            inheritable: line("CapInh:")?,
            permitted: line("CapPrm:")?,
            effective: line("CapEff:")?,
            bounding: line("CapBnd:")?,
            ambient: line("CapAmb:")?,
        })
    }
}

/// Removes from the calling thread's bounding set whatever is not in `keep`; wants `CAP_SETPCAP`.
pub fn limit_bounding(keep: Set) -> Result<()> {
    for number in 0..64 {
        if keep.0 & (1 << number) != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The kernel's last capability has been passed.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error).doing(|| format!("drop capability {number} from the bounding set")),
        }
    }
    Ok(())
}

/// Sets permitted and effective of the calling thread to `held`; of `ambient` what is held becomes inheritable and
/// ambient, and nothing else is (CVE-2022-24769).
pub fn set(held: Set, ambient: Set) -> Result<()> {
    clear_ambient_capability_set().doing(|| "clear the ambient capabilities")?;
    reduce(held, ambient)?;
    for number in (0..64).filter(|number| held.intersection(ambient).0 & (1 << number) != 0) {
        configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
            .doing(|| format!("raise ambient capability {number}"))?;
    }
    Ok(())
}

/// As [`set`], but raises no ambient capability: of those that are, the kernel keeps what stays permitted and
/// inheritable.
pub fn reduce(held: Set, inheritable: Set) -> Result<()> {
    let (permitted, inheritable) = (held.0, held.intersection(inheritable).0);
    let permitted = CapabilitySet::from_bits_retain(permitted);
    let inheritable = CapabilitySet::from_bits_retain(inheritable);
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable })
        .doing(|| format!("set the capabilities {held:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("chown"), None);
        let (set, unknown) = Set::from_names(["CAP_KILL", "CAP_FLY"]);
        assert_eq!(set.bits(), 1 << 5);
        assert_eq!(unknown, ["CAP_FLY"]);
        assert_eq!(set.names().collect::<Vec<_>>(), ["CAP_KILL"]);
    }

    #[test]
    fn own_bounding_set_is_that_of_the_status() {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
        let sets = Sets::parse_status(&status).expect("sets");
        assert_eq!(bounding().expect("bounding"), sets.bounding);
        let (kept, lost) = clamp(Set::from_bits(u64::MAX)).expect("clamp");
        assert!(kept.intersection(lost).is_empty());
        assert_eq!(kept, sets.bounding);
    }

    #[test]
    fn sets_of_a_thread_change() {
        std::thread::spawn(|| {
            let sets = || {
                let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
                Sets::parse_status(&status).expect("sets")
            };
            let (keep, _) = Set::from_names(["CAP_KILL", "CAP_SETPCAP"]);
            let (kill, _) = Set::from_names(["CAP_KILL"]);
            let (beyond, _) = Set::from_names(["CAP_KILL", "CAP_CHOWN"]);
            limit_bounding(keep).expect("bounding");
            set(keep, Set::EMPTY).expect("set");
            let plain =
                Sets { inheritable: Set::EMPTY, permitted: keep, effective: keep, bounding: keep, ambient: Set::EMPTY };
            assert_eq!(sets(), plain);
            // What is not held is not raised, and what is given up is not ambient any more.
            set(keep, beyond).expect("ambient");
            assert_eq!(sets(), Sets { inheritable: kill, ambient: kill, ..plain });
            reduce(kill, kill).expect("reduce");
            assert_eq!(sets(), Sets { inheritable: kill, permitted: kill, effective: kill, ambient: kill, ..plain });
            reduce(Set::EMPTY, kill).expect("reduce");
            assert_eq!(sets().ambient.union(sets().inheritable), Set::EMPTY);
        })
        .join()
        .expect("join");
    }
}
