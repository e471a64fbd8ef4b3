//! What a cgroup uses in every detail that metrics show. Read file by file when somebody asks: what is asked for every
//! few seconds is in [`crate::Stats`].
//!
//! A figure is `None` where this kernel or this version of cgroups does not count it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::hierarchy::Version;
use crate::{Cgroup, Result, files};

/// Limits at or above this mean none (v1 shows the largest number of pages).
const NO_LIMIT: u64 = 1 << 62;

/// Everything. A part is `None` where the host has no controller for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Processor time.
    pub cpu: Option<CpuDetails>,
    /// Memory.
    pub memory: Option<MemoryDetails>,
    /// Input and output of each block device, in the devices' order.
    pub io: Vec<DeviceIo>,
    /// Tasks, that is threads, now.
    pub tasks: Option<u64>,
    /// The most tasks there may be; `None`: any number.
    pub tasks_max: Option<u64>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuDetails {
    /// On all processors together.
    pub usage: u64,
    /// Of that, outside of the kernel.
    pub user: u64,
    /// Of that, in the kernel.
    pub system: u64,
    /// What a quota did.
    pub throttling: Option<Throttling>,
}

/// What a quota of processor time did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods that have passed.
    pub periods: u64,
    /// Of those, periods whose quota was used up.
    pub throttled_periods: u64,
    /// How long tasks were held back, in nanoseconds.
    pub throttled: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryDetails {
    /// All that is charged.
    pub usage: u64,
    /// The most that ever was (v2: Linux ≥ 5.19).
    pub max_usage: Option<u64>,
    /// Usage without inactive file pages.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Pages of files.
    pub cache: u64,
    /// Of those, pages that are mapped.
    pub mapped_file: u64,
    /// File pages that were used lately.
    pub active_file: u64,
    /// File pages that were not.
    pub inactive_file: u64,
    /// What the kernel holds for the cgroup.
    pub kernel: Option<u64>,
    /// What is swapped out.
    pub swap: Option<u64>,
    /// How often the limit was met; v2 does not count the same.
    pub failures: Option<u64>,
    /// Minor and major page faults.
    pub page_faults: u64,
    /// Major ones.
    pub major_page_faults: u64,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
}

/// Input and output of one block device since the cgroup was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes by operation, as the kernel names it (v1: `Read`, `Write`, `Sync` …; v2: `Read`, `Write`, `Discard`).
    pub bytes: BTreeMap<String, u64>,
    /// Finished operations.
    pub operations: BTreeMap<String, u64>,
}

impl Cgroup {
    /// What the cgroup and all below it use. A cgroup that is gone has nothing.
    pub fn details(&self) -> Result<Details> {
        let directory = |v1: &str| self.controller(v1);
        let (tasks, tasks_max) = match directory("pids") {
            Some((dir, _)) => (number(&dir.join("pids.current"))?, number(&dir.join("pids.max"))?),
            None => (None, None),
        };
        Ok(Details {
            cpu: match (directory("cpuacct"), directory("cpu")) {
                (Some((accounting, Version::V1)), cpu) => cpu_v1(&accounting, cpu.as_ref().map(|(dir, _)| dir))?,
                (Some((dir, Version::V2)), _) => cpu_v2(&dir)?,
                (None, _) => None,
            },
            memory: match directory("memory") {
                Some((dir, Version::V1)) => memory_v1(&dir)?,
                Some((dir, Version::V2)) => memory_v2(&dir)?,
                None => None,
            },
            io: match directory("blkio") {
                Some((dir, Version::V1)) => io_v1(&dir)?,
                Some((dir, Version::V2)) => files::read_if_there(&dir.join("io.stat"))?.map_or(vec![], |t| io_v2(&t)),
                None => Vec::new(),
            },
            tasks,
            tasks_max,
        })
    }
}

/// A file with one number; `max`, or what is none in v1, is as good as no number.
fn number(path: &Path) -> Result<Option<u64>> {
    Ok(files::read_if_there(path)?.and_then(|text| text.trim().parse().ok()).filter(|number| *number < NO_LIMIT))
}

fn cpu_v1(accounting: &Path, cpu: Option<&std::path::PathBuf>) -> Result<Option<CpuDetails>> {
    let Some(usage) = number(&accounting.join("cpuacct.usage"))? else { return Ok(None) };
    let split = files::read_if_there(&accounting.join("cpuacct.stat"))?.unwrap_or_default();
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let time = |key| files::keyed(&split, key).unwrap_or(0).saturating_mul(tick);
    let quota = cpu.map(|dir| files::read_if_there(&dir.join("cpu.stat"))).transpose()?.flatten();
    let throttling = quota.and_then(|text| throttling(&text, "throttled_time", 1));
    Ok(Some(CpuDetails { usage, user: time("user"), system: time("system"), throttling }))
}

fn cpu_v2(dir: &Path) -> Result<Option<CpuDetails>> {
    let Some(text) = files::read_if_there(&dir.join("cpu.stat"))? else { return Ok(None) };
    let time = |key| files::keyed(&text, key).unwrap_or(0).saturating_mul(1000);
    Ok(Some(CpuDetails {
        usage: time("usage_usec"),
        user: time("user_usec"),
        system: time("system_usec"),
        throttling: throttling(&text, "throttled_usec", 1000),
    }))
}

fn throttling(text: &str, time: &str, unit: u64) -> Option<Throttling> {
    Some(Throttling {
        periods: files::keyed(text, "nr_periods")?,
        throttled_periods: files::keyed(text, "nr_throttled")?,
        throttled: files::keyed(text, time)?.saturating_mul(unit),
    })
}

fn memory_v1(dir: &Path) -> Result<Option<MemoryDetails>> {
    let usage = number(&dir.join("memory.usage_in_bytes"))?;
    let (Some(usage), Some(stat)) = (usage, files::read_if_there(&dir.join("memory.stat"))?) else { return Ok(None) };
    let figure = |key| files::keyed(&stat, key).unwrap_or(0);
    let inactive_file = figure("total_inactive_file");
    let events = files::read_if_there(&dir.join("memory.oom_control"))?;
    Ok(Some(MemoryDetails {
        usage,
        max_usage: number(&dir.join("memory.max_usage_in_bytes"))?,
        working_set: usage.saturating_sub(inactive_file),
        rss: figure("total_rss"),
        cache: figure("total_cache"),
        mapped_file: figure("total_mapped_file"),
        active_file: figure("total_active_file"),
        inactive_file,
        kernel: number(&dir.join("memory.kmem.usage_in_bytes"))?,
        swap: files::keyed(&stat, "total_swap"),
        failures: number(&dir.join("memory.failcnt"))?,
        page_faults: figure("total_pgfault"),
        major_page_faults: figure("total_pgmajfault"),
        oom_kills: events.and_then(|text| files::keyed(&text, "oom_kill")),
    }))
}

fn memory_v2(dir: &Path) -> Result<Option<MemoryDetails>> {
    let usage = number(&dir.join("memory.current"))?;
    let (Some(usage), Some(stat)) = (usage, files::read_if_there(&dir.join("memory.stat"))?) else { return Ok(None) };
    let figure = |key| files::keyed(&stat, key).unwrap_or(0);
    let inactive_file = figure("inactive_file");
    let events = files::read_if_there(&dir.join("memory.events"))?;
    Ok(Some(MemoryDetails {
        usage,
        max_usage: number(&dir.join("memory.peak"))?,
        working_set: usage.saturating_sub(inactive_file),
        rss: figure("anon"),
        cache: figure("file"),
        mapped_file: figure("file_mapped"),
        active_file: figure("active_file"),
        inactive_file,
        // All of it is one figure since Linux 5.18; before that stacks are what is known to be only the kernel's.
        kernel: files::keyed(&stat, "kernel").or_else(|| files::keyed(&stat, "kernel_stack")),
        swap: number(&dir.join("memory.swap.current"))?,
        failures: None,
        page_faults: figure("pgfault"),
        major_page_faults: figure("pgmajfault"),
        oom_kills: events.and_then(|text| files::keyed(&text, "oom_kill")),
    }))
}

/// The throttling layer counts for every scheduler; before Linux 5.0 only the cgroup's own, not recursively.
fn io_v1(dir: &Path) -> Result<Vec<DeviceIo>> {
    let read = |name: &str| match files::read_if_there(&dir.join(format!("blkio.throttle.{name}_recursive")))? {
        Some(text) => Ok(text),
        None => Ok(files::read_if_there(&dir.join(format!("blkio.throttle.{name}")))?.unwrap_or_default()),
    };
    let mut devices = BTreeMap::<(u32, u32), DeviceIo>::new();
    for (text, bytes) in [(read("io_service_bytes")?, true), (read("io_serviced")?, false)] {
        for (device, operation, value) in text.lines().filter_map(line_v1) {
            let entry = devices.entry(device).or_default();
            let figures = if bytes { &mut entry.bytes } else { &mut entry.operations };
            figures.insert(operation.to_owned(), value);
        }
    }
    Ok(numbered(devices))
}

/// `8:0 Read 4096`; the last line is the sum of all devices, without one.
fn line_v1(line: &str) -> Option<((u32, u32), &str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let device = device(words.next()?)?;
    Some((device, words.next()?, words.next()?.parse().ok()?))
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`
fn io_v2(text: &str) -> Vec<DeviceIo> {
    let mut devices = BTreeMap::<(u32, u32), DeviceIo>::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next().and_then(device) else { continue };
        let entry = devices.entry(device).or_default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let (figures, operation) = match key {
                "rbytes" => (&mut entry.bytes, "Read"),
                "wbytes" => (&mut entry.bytes, "Write"),
                "dbytes" => (&mut entry.bytes, "Discard"),
                "rios" => (&mut entry.operations, "Read"),
                "wios" => (&mut entry.operations, "Write"),
                "dios" => (&mut entry.operations, "Discard"),
                _ => continue,
            };
            figures.insert(operation.to_owned(), value);
        }
    }
    numbered(devices)
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn numbered(devices: BTreeMap<(u32, u32), DeviceIo>) -> Vec<DeviceIo> {
    devices.into_iter().map(|((major, minor), io)| DeviceIo { major, minor, ..io }).collect()
}

#[cfg(test)]
#[path = "details_tests.rs"]
mod tests;
