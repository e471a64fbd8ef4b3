//! What `/proc` says about CPU time and memory (proc_pid_smaps(5),
//! proc_pid_schedstat in the kernel's scheduler/sched-stats, proc_stat(5)).

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;

/// Ticks a second in `/proc/stat`: USER_HZ, 100 on every architecture that Linux still has.
const TICKS: f64 = 100.0;

/// The proportional set size of a process, in KiB.
pub(crate) fn pss(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    parse_pss(&fs::read_to_string(&path).with_context(|| path.clone())?).with_context(|| format!("{path}: no Pss"))
}

fn parse_pss(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("Pss:"))?.split_whitespace().next()?.parse().ok()
}

/// CPU seconds that this machine's processors were busy since its start, time
/// stolen by the hypervisor not counted.
pub(crate) fn machine_busy() -> Result<f64> {
    parse_busy(&fs::read_to_string("/proc/stat")?).context("/proc/stat: not understood")
}

fn parse_busy(text: &str) -> Option<f64> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let fields: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    // user nice system idle iowait irq softirq steal
    let [user, nice, system, _, _, irq, softirq, ..] = fields[..] else { return None };
    Some((user + nice + system + irq + softirq) / TICKS)
}

/// CPU time of processes at one moment, by thread, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Clock(BTreeMap<(i32, i32), u64>);

impl Clock {
    /// Reads the clocks; what has ended is left out.
    pub(crate) fn read(pids: &[i32]) -> Self {
        let mut clocks = BTreeMap::new();
        for &pid in pids {
            for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
                let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
                if let Some(nanos) = text.split_whitespace().next().and_then(|field| field.parse().ok()) {
                    clocks.insert((pid, tid), nanos);
                }
            }
        }
        Self(clocks)
    }

    /// Seconds since an earlier reading. The last moments of a thread that has
    /// ended in between are not in it.
    pub(crate) fn seconds_since(&self, earlier: &Self) -> f64 {
        let spent = self.0.iter().map(|(thread, nanos)| nanos.saturating_sub(*earlier.0.get(thread).unwrap_or(&0)));
        spent.sum::<u64>() as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_formats() {
        assert_eq!(parse_pss("00-01 ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:   123 kB\n"), Some(123.0));
        assert_eq!(parse_pss("Pss_Dirty: 1 kB\n"), None);
        assert_eq!(parse_busy("cpu  100 20 30 9999 888 4 6 77 0 0\ncpu0 1 2 3\n"), Some(1.6));
        assert_eq!(parse_busy("cpu0 1 2 3 4 5 6 7 8\n"), None);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let me = std::process::id().cast_signed();
        assert!(pss(me).expect("pss") > 100.0);
        let (before, machine) = (Clock::read(&[me]), machine_busy().expect("stat"));
        let began = std::time::Instant::now();
        while began.elapsed().as_millis() < 60 {
            std::hint::black_box(began.elapsed());
        }
        assert!(Clock::read(&[me]).seconds_since(&before) > 0.005);
        assert!(machine_busy().expect("stat") > machine);
    }
}
