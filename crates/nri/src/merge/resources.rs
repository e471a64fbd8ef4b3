//! Resources: claimed field by field, then copied.

use crate::api::{Field, LinuxCpu, LinuxMemory, LinuxResources};

use super::owners::{MergeError, Owners};

/// Whose resources change, by whom.
pub(super) struct Claim<'a> {
    pub(super) owners: &'a mut Owners,
    pub(super) id: &'a str,
    pub(super) plugin: &'a str,
}

impl Claim<'_> {
    fn field(&mut self, field: Field) -> Result<(), MergeError> {
        self.owners.claim(self.id, field, self.plugin)
    }

    fn entry(&mut self, field: Field, entry: &str) -> Result<(), MergeError> {
        self.owners.claim_entry(self.id, field, entry, self.plugin)
    }

    /// Claims what `asked` sets and copies it to each of `targets`, up to the first conflict.
    pub(super) fn apply(
        &mut self,
        asked: &LinuxResources,
        targets: &mut [&mut LinuxResources],
    ) -> Result<(), MergeError> {
        if let Some(memory) = &asked.memory {
            self.memory(memory, targets)?;
        }
        if let Some(cpu) = &asked.cpu {
            self.cpu(cpu, targets)?;
        }
        for limit in &asked.hugepage_limits {
            self.entry(Field::HugepageLimits, &limit.page_size)?;
            targets.iter_mut().for_each(|t| t.hugepage_limits.push(limit.clone()));
        }
        for (key, value) in &asked.unified {
            self.entry(Field::CgroupsUnified, key)?;
            targets.iter_mut().for_each(|t| drop(t.unified.insert(key.clone(), value.clone())));
        }
        if let Some(class) = &asked.blockio_class {
            self.field(Field::BlockioClass)?;
            targets.iter_mut().for_each(|t| t.blockio_class = Some(class.clone()));
        }
        if let Some(class) = &asked.rdt_class {
            self.field(Field::RdtClass)?;
            targets.iter_mut().for_each(|t| t.rdt_class = Some(class.clone()));
        }
        if let Some(pids) = &asked.pids {
            self.field(Field::PidsLimit)?;
            targets.iter_mut().for_each(|t| t.pids = Some(*pids));
        }
        Ok(())
    }

    fn memory(&mut self, asked: &LinuxMemory, targets: &mut [&mut LinuxResources]) -> Result<(), MergeError> {
        macro_rules! set {
            ($($name:ident: $field:ident),*) => {$(
                if asked.$name.is_some() {
                    self.field(Field::$field)?;
                    for target in targets.iter_mut() {
                        target.memory.get_or_insert_default().$name = asked.$name.clone();
                    }
                }
            )*};
        }
        set!(limit: MemLimit, reservation: MemReservation, swap: MemSwapLimit, kernel: MemKernelLimit,
             kernel_tcp: MemTcpLimit, swappiness: MemSwappiness, disable_oom_killer: MemDisableOomKiller,
             use_hierarchy: MemUseHierarchy);
        Ok(())
    }

    fn cpu(&mut self, asked: &LinuxCpu, targets: &mut [&mut LinuxResources]) -> Result<(), MergeError> {
        macro_rules! set {
            ($($name:ident: $field:ident if $given:ident),*) => {$(
                if asked.$name.$given() {
                    self.field(Field::$field)?;
                    for target in targets.iter_mut() {
                        target.cpu.get_or_insert_default().$name = asked.$name.clone();
                    }
                }
            )*};
        }
        set!(shares: CpuShares if is_some, quota: CpuQuota if is_some, period: CpuPeriod if is_some,
             realtime_runtime: CpuRealtimeRuntime if is_some, realtime_period: CpuRealtimePeriod if is_some);
        for (value, field) in [(&asked.cpus, Field::CpuSetCpUs), (&asked.mems, Field::CpuSetMems)] {
            if value.is_empty() {
                continue;
            }
            self.field(field)?;
            for target in targets.iter_mut() {
                let cpu = target.cpu.get_or_insert_default();
                let place = if field == Field::CpuSetMems { &mut cpu.mems } else { &mut cpu.cpus };
                place.clone_from(value);
            }
        }
        Ok(())
    }
}
