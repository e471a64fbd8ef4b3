//! What a container has used, in the figures of control groups (`cgroup1/stats` and `cgroup2/stats` of
//! github.com/containerd/cgroups): shims of virtual machines answer in these, too.

use prost::Message as _;

use crate::error::{Error, Result};
use crate::messages::Any;

/// What a container has used. What the shim does not say is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of all processors together.
    pub cpu_nanoseconds: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of it that are pages of files which were not used lately.
    pub inactive_file: u64,
    /// Bytes of it that are anonymous.
    pub rss: u64,
    /// The limit in bytes; `None`: there is none.
    pub memory_limit: Option<u64>,
    /// Page faults of all kinds.
    pub page_faults: u64,
    /// Those that had to wait for a disk.
    pub major_page_faults: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// Limits above are none: version 1 says so by the largest number of whole pages.
const UNLIMITED: u64 = i64::MAX as u64 - (64 << 10);

impl Usage {
    pub(crate) fn of(answer: Option<&Any>) -> Result<Self> {
        let Some(Any { type_url, value }) = answer else {
            return Err(Error::Protocol("statistics without any".to_owned()));
        };
        let broken = |e: prost::DecodeError| Error::Protocol(format!("statistics: {e}"));
        if type_url.ends_with("io.containerd.cgroups.v1.Metrics") {
            return Ok(V1::decode(value.as_slice()).map_err(broken)?.into());
        }
        if type_url.ends_with("io.containerd.cgroups.v2.Metrics") {
            return Ok(V2::decode(value.as_slice()).map_err(broken)?.into());
        }
        let shown: String = type_url.chars().take(100).collect();
        Err(Error::Protocol(format!("statistics of an unknown kind {shown:?}")))
    }
}

fn limit(bytes: u64) -> Option<u64> {
    Some(bytes).filter(|limit| (1..UNLIMITED).contains(limit))
}

/// `io.containerd.cgroups.v1.Metrics`.
#[derive(Clone, PartialEq, prost::Message)]
struct V1 {
    #[prost(message, optional, tag = "2")]
    pids: Option<Pids>,
    #[prost(message, optional, tag = "3")]
    cpu: Option<Cpu1>,
    #[prost(message, optional, tag = "4")]
    memory: Option<Memory1>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pids {
    #[prost(uint64, tag = "1")]
    current: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Cpu1 {
    #[prost(message, optional, tag = "1")]
    usage: Option<CpuUsage1>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CpuUsage1 {
    #[prost(uint64, tag = "1")]
    total: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Memory1 {
    #[prost(uint64, tag = "19")]
    total_rss: u64,
    #[prost(uint64, tag = "26")]
    total_faults: u64,
    #[prost(uint64, tag = "27")]
    total_major_faults: u64,
    #[prost(uint64, tag = "30")]
    total_inactive_file: u64,
    #[prost(message, optional, tag = "33")]
    usage: Option<MemoryEntry1>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemoryEntry1 {
    #[prost(uint64, tag = "1")]
    limit: u64,
    #[prost(uint64, tag = "2")]
    usage: u64,
}

impl From<V1> for Usage {
    fn from(V1 { pids, cpu, memory }: V1) -> Self {
        let memory = memory.unwrap_or_default();
        let usage = memory.usage.unwrap_or_default();
        Self {
            cpu_nanoseconds: cpu.and_then(|cpu| cpu.usage).unwrap_or_default().total,
            memory: usage.usage,
            inactive_file: memory.total_inactive_file,
            rss: memory.total_rss,
            memory_limit: limit(usage.limit),
            page_faults: memory.total_faults,
            major_page_faults: memory.total_major_faults,
            processes: pids.unwrap_or_default().current,
        }
    }
}

/// `io.containerd.cgroups.v2.Metrics`.
#[derive(Clone, PartialEq, prost::Message)]
struct V2 {
    #[prost(message, optional, tag = "1")]
    pids: Option<Pids>,
    #[prost(message, optional, tag = "2")]
    cpu: Option<Cpu2>,
    #[prost(message, optional, tag = "4")]
    memory: Option<Memory2>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Cpu2 {
    #[prost(uint64, tag = "1")]
    usage_usec: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Memory2 {
    #[prost(uint64, tag = "1")]
    anon: u64,
    #[prost(uint64, tag = "12")]
    inactive_file: u64,
    #[prost(uint64, tag = "18")]
    faults: u64,
    #[prost(uint64, tag = "19")]
    major_faults: u64,
    #[prost(uint64, tag = "32")]
    usage: u64,
    #[prost(uint64, tag = "33")]
    usage_limit: u64,
}

impl From<V2> for Usage {
    fn from(V2 { pids, cpu, memory }: V2) -> Self {
        let memory = memory.unwrap_or_default();
        Self {
            cpu_nanoseconds: cpu.unwrap_or_default().usage_usec.saturating_mul(1000),
            memory: memory.usage,
            inactive_file: memory.inactive_file,
            rss: memory.anon,
            memory_limit: limit(memory.usage_limit),
            page_faults: memory.faults,
            major_page_faults: memory.major_faults,
            processes: pids.unwrap_or_default().current,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(version: u8, value: Vec<u8>) -> Any {
        Any { type_url: format!("io.containerd.cgroups.v{version}.Metrics"), value }
    }

    #[test]
    fn both_versions_are_the_same_figures() {
        let one = V1 {
            pids: Some(Pids { current: 3 }),
            cpu: Some(Cpu1 { usage: Some(CpuUsage1 { total: 5000 }) }),
            memory: Some(Memory1 {
                total_rss: 2,
                total_faults: 7,
                total_major_faults: 1,
                total_inactive_file: 4,
                usage: Some(MemoryEntry1 { limit: 100, usage: 10 }),
            }),
        };
        let memory = Memory2 { anon: 2, inactive_file: 4, faults: 7, major_faults: 1, usage: 10, usage_limit: 100 };
        let two = V2 { pids: Some(Pids { current: 3 }), cpu: Some(Cpu2 { usage_usec: 5 }), memory: Some(memory) };
        let want = Usage {
            cpu_nanoseconds: 5000,
            memory: 10,
            inactive_file: 4,
            rss: 2,
            memory_limit: Some(100),
            page_faults: 7,
            major_page_faults: 1,
            processes: 3,
        };
        for answer in [any(1, one.encode_to_vec()), any(2, two.encode_to_vec())] {
            assert_eq!(Usage::of(Some(&answer)).expect("figures"), want, "{}", answer.type_url);
        }
        for none in [0, u64::MAX, 9_223_372_036_854_771_712] {
            assert_eq!(limit(none), None);
        }
        for bad in [None, Some(any(3, Vec::new())), Some(any(1, vec![0xff]))] {
            assert!(Usage::of(bad.as_ref()).is_err(), "{bad:?}");
        }
    }
}
