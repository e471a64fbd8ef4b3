//! Writing limits: all of them or none.
//!
//! A plan is a list of steps, each a file and a value. Steps run in order; the old value of each file is read first,
//! and a failure writes the old values back, last first.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::hierarchy::Version;
use crate::resources::{or_max, weight};
use crate::{Cgroup, Error, Resources, Result, files};

/// One file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    file: PathBuf,
    value: String,
}

impl Cgroup {
    /// Sets the limits that are given; all or nothing. A limit whose controller the host lacks is an error.
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        resources.check()?;
        let steps = self.plan(resources)?;
        match run(&steps) {
            // The kernel checks quota against period at each write, so that the other order may be the possible one.
            Err(e) if e.errno() == Some(Errno::INVAL.raw_os_error()) => match quota_first(&steps) {
                Some(other) => run(&other),
                None => Err(e),
            },
            done => done,
        }
    }

    fn plan(&self, r: &Resources) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        self.plan_cpu(r, &mut steps)?;
        self.plan_cpuset(r, &mut steps)?;
        self.plan_memory(r, &mut steps)?;
        if let Some(limit) = r.pids_limit {
            let (dir, _) = self.need("pids")?;
            steps.push(step(dir.join("pids.max"), or_max(limit)));
        }
        for (size, bytes) in &r.hugepages {
            self.plan_hugepages(size, *bytes, &mut steps)?;
        }
        for (file, value) in &r.unified {
            if self.hierarchies.version() == Version::V1 {
                return Err(Error::resource("unified", format!("{file} needs cgroup v2, this host has v1")));
            }
            steps.push(step(self.procs_dir().join(file), value.clone()));
        }
        Ok(steps)
    }

    fn plan_cpu(&self, r: &Resources, steps: &mut Vec<Step>) -> Result<()> {
        if r.cpu_shares.is_none() && r.cpu_quota.is_none() && r.cpu_period.is_none() {
            return Ok(());
        }
        let (dir, version) = self.need("cpu")?;
        match version {
            Version::V1 => {
                steps.extend(r.cpu_shares.map(|s| step(dir.join("cpu.shares"), s)));
                steps.extend(r.cpu_period.map(|p| step(dir.join("cpu.cfs_period_us"), p)));
                steps.extend(r.cpu_quota.map(|q| step(dir.join("cpu.cfs_quota_us"), q.max(-1))));
            }
            Version::V2 => {
                steps.extend(r.cpu_shares.map(|s| step(dir.join("cpu.weight"), weight(s))));
                let value = match (r.cpu_quota.map(or_max), r.cpu_period) {
                    (None, None) => None,
                    // The quota alone leaves the period as it is.
                    (Some(quota), None) => Some(quota),
                    (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
                    (None, Some(period)) => {
                        let now = files::read(&dir.join("cpu.max"))?;
                        Some(format!("{} {period}", now.split_whitespace().next().unwrap_or("max")))
                    }
                };
                steps.extend(value.map(|v| step(dir.join("cpu.max"), v)));
            }
        }
        Ok(())
    }

    fn plan_cpuset(&self, r: &Resources, steps: &mut Vec<Step>) -> Result<()> {
        for (list, file) in [(&r.cpuset_cpus, "cpuset.cpus"), (&r.cpuset_mems, "cpuset.mems")] {
            if let Some(list) = list {
                steps.push(step(self.need("cpuset")?.0.join(file), list));
            }
        }
        Ok(())
    }

    fn plan_memory(&self, r: &Resources, steps: &mut Vec<Step>) -> Result<()> {
        if r.memory_limit.is_none() && r.memory_swap.is_none() && r.memory_reservation.is_none() {
            return Ok(());
        }
        let (dir, version) = self.need("memory")?;
        match version {
            Version::V1 => {
                plan_memory_v1(&dir, r, steps)?;
                steps.extend(r.memory_reservation.map(|b| step(dir.join("memory.soft_limit_in_bytes"), b.max(-1))));
            }
            Version::V2 => {
                plan_memory_v2(&dir, r, steps)?;
                steps.extend(r.memory_reservation.map(|b| step(dir.join("memory.low"), or_max(b))));
            }
        }
        Ok(())
    }

    /// Reservations (`rsvd`) are limited as well where the kernel counts them: a limit on faults alone ends in SIGBUS.
    fn plan_hugepages(&self, size: &str, bytes: u64, steps: &mut Vec<Step>) -> Result<()> {
        let (dir, version) = self.need("hugetlb")?;
        let name = match version {
            Version::V1 => "limit_in_bytes",
            Version::V2 => "max",
        };
        steps.push(step(dir.join(format!("hugetlb.{size}.{name}")), bytes));
        let reservations = dir.join(format!("hugetlb.{size}.rsvd.{name}"));
        if files::exists(&reservations) {
            steps.push(step(reservations, bytes));
        }
        Ok(())
    }

    fn need(&self, controller: &'static str) -> Result<(PathBuf, Version)> {
        self.controller(controller)
            .ok_or_else(|| Error::resource(controller, "this host has no such cgroup controller"))
    }
}

/// v1 keeps memory ≤ memory+swap at every moment, so that the order depends on the direction.
fn plan_memory_v1(dir: &std::path::Path, r: &Resources, steps: &mut Vec<Step>) -> Result<()> {
    let (memory, both) = (dir.join("memory.limit_in_bytes"), dir.join("memory.memsw.limit_in_bytes"));
    let now =
        |file| -> Result<Option<i64>> { Ok(files::read_if_there(file)?.map(|t| t.trim().parse().unwrap_or(i64::MAX))) };
    let unlimited = |bytes: i64| if bytes < 0 { i64::MAX } else { bytes };
    let Some(both_now) = now(&both)? else {
        // The kernel does not account for swap: there is none to limit.
        steps.extend(r.memory_limit.map(|m| step(memory, m.max(-1))));
        return Ok(());
    };
    match (r.memory_limit.map(|m| m.max(-1)), r.memory_swap.map(|s| s.max(-1))) {
        (Some(m), Some(s)) => {
            let memory_now = now(&memory)?.unwrap_or(i64::MAX);
            let (memory, both) = (step(memory, m), step(both, s));
            let raising = unlimited(s) >= memory_now;
            steps.extend(if raising { [both, memory] } else { [memory, both] });
        }
        (Some(m), None) => {
            // The sum may not stay below what is asked for memory alone.
            if unlimited(m) > both_now {
                steps.push(step(both, m));
            }
            steps.push(step(memory, m));
        }
        (None, Some(s)) => steps.push(step(both, s)),
        (None, None) => {}
    }
    Ok(())
}

/// v2 limits swap by itself.
fn plan_memory_v2(dir: &std::path::Path, r: &Resources, steps: &mut Vec<Step>) -> Result<()> {
    let swap_file = dir.join("memory.swap.max");
    if let Some(both) = r.memory_swap
        && files::exists(&swap_file)
    {
        let memory = match r.memory_limit {
            Some(m) => m,
            None => files::read(&dir.join("memory.max"))?.trim().parse().unwrap_or(-1),
        };
        let swap = match (both, memory) {
            (..0, _) => "max".to_owned(),
            (_, ..0) => return Err(Error::resource("memory_swap", "a limit of memory and swap needs one of memory")),
            (both, memory) if both < memory => {
                return Err(Error::resource("memory_swap", format!("{both} is less than the memory limit {memory}")));
            }
            (both, memory) => (both - memory).to_string(),
        };
        steps.push(step(swap_file, swap));
    }
    steps.extend(r.memory_limit.map(|m| step(dir.join("memory.max"), or_max(m))));
    Ok(())
}

fn step(file: PathBuf, value: impl ToString) -> Step {
    Step { file, value: value.to_string() }
}

/// The same steps with v1's quota before its period; `None` when not both are there.
fn quota_first(steps: &[Step]) -> Option<Vec<Step>> {
    let at = steps
        .windows(2)
        .position(|w| w[0].file.ends_with("cpu.cfs_period_us") && w[1].file.ends_with("cpu.cfs_quota_us"))?;
    let mut other = steps.to_vec();
    other.swap(at, at + 1);
    Some(other)
}

fn run(steps: &[Step]) -> Result<()> {
    let mut done: Vec<Step> = Vec::new();
    for Step { file, value } in steps {
        let result = files::read(file).and_then(|old| files::write(file, value).map(|()| old));
        match result {
            Ok(old) => done.push(step(file.clone(), restorable(&old))),
            Err(e) => {
                // A limit that was lowered can always be raised again; a failure here has no better answer.
                for Step { file, value } in done.iter().rev() {
                    let _ = files::write(file, value);
                }
                return Err(e);
            }
        }
    }
    Ok(())
}

/// What is written to bring back a value that was read. v1 shows "no limit" as a large number, which it also takes.
fn restorable(old: &str) -> String {
    let old = old.trim();
    // An empty cpuset can only be written as a lone newline.
    if old.is_empty() { "\n".to_owned() } else { old.to_owned() }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
