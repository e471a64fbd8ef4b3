//! What a cgroup uses, in the fields and units of CRI's statistics.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::hierarchy::Version;
use crate::{Cgroup, PsiStats, Result, files};

/// Limits at or above this mean none (v1 shows the largest number of pages).
const NO_LIMIT: u64 = 1 << 62;

/// What a cgroup uses. A part is `None` where the host has no controller for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// When the figures were read: nanoseconds since the epoch.
    pub timestamp: i64,
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Swap.
    pub swap: Option<SwapStats>,
    /// Pressure on input and output.
    pub io_psi: Option<PsiStats>,
    /// Tasks, as the pids controller counts them.
    pub process_count: Option<u64>,
}

/// Processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuStats {
    /// Nanoseconds used on all processors together.
    pub usage_core_nano_seconds: u64,
    /// Pressure.
    pub psi: Option<PsiStats>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// What is used and was used lately: usage without inactive file pages.
    pub working_set_bytes: u64,
    /// The limit less the working set; `None` without a limit.
    pub available_bytes: Option<u64>,
    /// All that is charged.
    pub usage_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Minor and major page faults since the cgroup was made.
    pub page_faults: u64,
    /// Major ones.
    pub major_page_faults: u64,
    /// Pressure.
    pub psi: Option<PsiStats>,
}

/// Swap, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SwapStats {
    /// What is used.
    pub swap_usage_bytes: u64,
    /// The limit less the usage; `None` without a limit.
    pub swap_available_bytes: Option<u64>,
}

/// Reads the statistics of one cgroup again and again out of files that it keeps open: a third of the cost of
/// opening them each time. Holds at most ten descriptors.
#[derive(Debug)]
pub struct StatsReader {
    version: Version,
    cpu: Option<File>,
    memory_usage: Option<File>,
    memory_stat: Option<File>,
    memory_limit: Option<File>,
    swap_usage: Option<File>,
    swap_limit: Option<File>,
    pids: Option<File>,
    pressure: [Option<File>; 3],
}

impl Cgroup {
    /// What the cgroup and all below it use. For a single look; [`StatsReader`] is for repeated ones.
    pub fn stats(&self) -> Result<Stats> {
        StatsReader::open(self)?.read()
    }
}

impl StatsReader {
    /// Opens the files of a cgroup, a container's or a pod's.
    pub fn open(group: &Cgroup) -> Result<Self> {
        let version = group.hierarchies.version();
        let open = |controller: &str, v1: &str, v2: &str| {
            let (dir, version) = group.controller(controller)?;
            open_if_there(&dir.join(if version == Version::V1 { v1 } else { v2 }))
        };
        // Pressure is shown by the unified hierarchy, on hybrid hosts too.
        let unified = group.hierarchies.unified().map(|h| group.path.under(&h.mount));
        let pressure = |name: &str| open_if_there(&unified.as_ref()?.join(name));
        let reader = Self {
            version,
            cpu: open("cpuacct", "cpuacct.usage", "cpu.stat"),
            memory_usage: open("memory", "memory.usage_in_bytes", "memory.current"),
            memory_stat: open("memory", "memory.stat", "memory.stat"),
            memory_limit: open("memory", "memory.limit_in_bytes", "memory.max"),
            swap_usage: if version == Version::V2 { open("memory", "", "memory.swap.current") } else { None },
            swap_limit: open("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
            pids: open("pids", "pids.current", "pids.current"),
            pressure: [pressure("cpu.pressure"), pressure("memory.pressure"), pressure("io.pressure")],
        };
        if reader.cpu.is_none() && reader.memory_usage.is_none() && !group.exists() {
            let dir = group.procs_dir();
            return Err(crate::Error::io("open", &dir, rustix::io::Errno::NOENT));
        }
        Ok(reader)
    }

    /// The figures now. An error that [`crate::Error::is_gone`] means that the cgroup has been removed.
    pub fn read(&self) -> Result<Stats> {
        let [cpu_psi, memory_psi, io_psi] = [0, 1, 2].map(|i| psi(self.pressure[i].as_ref()));
        let memory_stat = text(self.memory_stat.as_ref())?;
        let limit = number(self.memory_limit.as_ref())?.filter(|l| *l < NO_LIMIT);
        let stats = Stats {
            cpu: self.cpu_time()?.map(|usage_core_nano_seconds| CpuStats { usage_core_nano_seconds, psi: cpu_psi }),
            memory: match (number(self.memory_usage.as_ref())?, &memory_stat) {
                (Some(usage), Some(stat)) => Some(self.memory(usage, stat, limit, memory_psi)),
                _ => None,
            },
            swap: self.swap(memory_stat.as_deref(), limit)?,
            io_psi,
            process_count: number(self.pids.as_ref())?,
            timestamp: SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as i64),
        };
        Ok(stats)
    }

    fn cpu_time(&self) -> Result<Option<u64>> {
        Ok(match self.version {
            Version::V1 => number(self.cpu.as_ref())?,
            Version::V2 => {
                text(self.cpu.as_ref())?.and_then(|t| files::keyed(&t, "usage_usec")).map(|us| us.saturating_mul(1000))
            }
        })
    }

    fn memory(&self, usage_bytes: u64, stat: &str, limit: Option<u64>, psi: Option<PsiStats>) -> MemoryStats {
        let [inactive, rss, faults, major] = match self.version {
            Version::V1 => ["total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault"],
            Version::V2 => ["inactive_file", "anon", "pgfault", "pgmajfault"],
        }
        .map(|key| files::keyed(stat, key).unwrap_or(0));
        let working_set_bytes = usage_bytes.saturating_sub(inactive);
        MemoryStats {
            working_set_bytes,
            available_bytes: limit.map(|l| l.saturating_sub(working_set_bytes)),
            usage_bytes,
            rss_bytes: rss,
            page_faults: faults,
            major_page_faults: major,
            psi,
        }
    }

    /// v1 counts swap in `memory.stat` and limits memory and swap together.
    fn swap(&self, memory_stat: Option<&str>, memory_limit: Option<u64>) -> Result<Option<SwapStats>> {
        let limit = number(self.swap_limit.as_ref())?.filter(|l| *l < NO_LIMIT);
        let (usage, limit) = match self.version {
            Version::V1 => {
                let usage = memory_stat.and_then(|s| files::keyed(s, "total_swap"));
                (usage, limit.zip(memory_limit).map(|(both, memory)| both.saturating_sub(memory)))
            }
            Version::V2 => (number(self.swap_usage.as_ref())?, limit),
        };
        Ok(usage.map(|u| SwapStats { swap_usage_bytes: u, swap_available_bytes: limit.map(|l| l.saturating_sub(u)) }))
    }
}

fn open_if_there(path: &Path) -> Option<File> {
    File::open(path).ok()
}

/// The whole content, from the start, of a file kept open.
fn text(file: Option<&File>) -> Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let filled = buffer.len();
        buffer.resize(filled + 4096, 0);
        let got = rustix::io::pread(file.as_fd(), &mut buffer[filled..], filled as u64)
            .map_err(|e| crate::Error::io("read", Path::new("a cgroup's statistics"), e))?;
        buffer.truncate(filled + got);
        if got == 0 || filled > 1 << 20 {
            return Ok(Some(String::from_utf8_lossy(&buffer).into_owned()));
        }
    }
}

/// A file with one number; `max` is as good as no number.
fn number(file: Option<&File>) -> Result<Option<u64>> {
    Ok(text(file)?.and_then(|t| t.trim().parse().ok()))
}

fn psi(file: Option<&File>) -> Option<PsiStats> {
    // EOPNOTSUPP where the kernel has pressure accounting switched off.
    PsiStats::parse(&text(file).ok()??)
}
