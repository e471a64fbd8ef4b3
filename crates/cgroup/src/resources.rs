//! What a cgroup can be limited to, and the conversions between the generations' units.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Limits of a cgroup. What is `None` (or absent) is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight in v1's unit, 2–262144; converted on v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time in a period; negative: no limit.
    pub cpu_quota: Option<i64>,
    /// The period, in microseconds.
    pub cpu_period: Option<u64>,
    /// CPUs in list format (`0-3,5`).
    pub cpuset_cpus: Option<String>,
    /// Memory nodes in list format.
    pub cpuset_mems: Option<String>,
    /// Bytes of memory; negative: no limit.
    pub memory_limit: Option<i64>,
    /// Bytes of memory **and** swap together, as v1, the OCI specification and CRI count; negative: no limit.
    /// Not written where the kernel does not account for swap.
    pub memory_swap: Option<i64>,
    /// Bytes to stay under when the host is short of memory (v1 soft limit, v2 `memory.low`).
    pub memory_reservation: Option<i64>,
    /// Most tasks; negative: no limit.
    pub pids_limit: Option<i64>,
    /// Bytes for each huge page size (`2MB`).
    pub hugepages: BTreeMap<String, u64>,
    /// v2 control files and what to write to them, after everything else.
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what could reach a file that is none of the limits'.
    pub(crate) fn check(&self) -> Result<()> {
        for (field, list) in [("cpuset_cpus", &self.cpuset_cpus), ("cpuset_mems", &self.cpuset_mems)] {
            let ok = |b: u8| b.is_ascii_digit() || b == b',' || b == b'-';
            if list.as_ref().is_some_and(|l| l.is_empty() || l.len() > 4000 || !l.bytes().all(ok)) {
                return Err(Error::resource(field, format!("{:?} is no list of numbers and ranges", list)));
            }
        }
        for size in self.hugepages.keys() {
            let digits = size.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
            if digits.is_empty() || digits.len() == size.len() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Error::resource("hugepages", format!("{size:?} is no page size such as 2MB")));
            }
        }
        for (file, value) in &self.unified {
            let name_ok = file.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b));
            if !name_ok || !file.contains('.') || file.starts_with('.') || file.starts_with("cgroup.") {
                return Err(Error::resource("unified", format!("{file:?} is no control file of a controller")));
            }
            if value.contains('\0') {
                return Err(Error::resource("unified", format!("{file:?} holds a NUL")));
            }
        }
        Ok(())
    }
}

/// v2 `cpu.weight` (1–10000) for v1 `cpu.shares` (2–262144): 2, 1024 and 262144 become 1, 100 and 10000, on the curve
/// that runc ≥ 1.3, crun ≥ 1.23 and the kubelet use, so that a pod's and its containers' weights are on one scale.
pub(crate) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// `max` for a negative number, as v2 writes "no limit".
pub(crate) fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        let got: Vec<u64> = [0, 2, 102, 1024, 2048, 262_144, 1 << 40].into_iter().map(weight).collect();
        assert_eq!(got, [1, 1, 17, 100, 174, 10_000, 10_000]);
        assert!((2..5000).all(|s| weight(s) <= weight(s + 1)));
    }

    #[test]
    fn refuses_what_could_reach_other_files() {
        let unified = |k: &str| Resources { unified: [(k.to_owned(), "1".to_owned())].into(), ..Default::default() };
        for bad in ["../memory.max", "cgroup.procs", "cgroup.kill", "memory", "a/b.c", ".x", ""] {
            assert!(unified(bad).check().is_err(), "{bad}");
        }
        assert!(unified("memory.high").check().is_ok());
        let huge = |k: &str| Resources { hugepages: [(k.to_owned(), 1)].into(), ..Default::default() };
        for bad in ["", "2", "MB", "../x", "2MB/../x", "xMB"] {
            assert!(huge(bad).check().is_err(), "{bad}");
        }
        assert!(huge("2MB").check().is_ok() && huge("64KB").check().is_ok());
        for bad in ["", "0\n1", "../"] {
            assert!(Resources { cpuset_cpus: Some(bad.into()), ..Default::default() }.check().is_err(), "{bad}");
        }
    }
}
