//! Scheduling, I/O priority and personality, of a `base_runtime_spec`.

use libcontainer::config::PersonalityDomain;
use libcontainer::oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, Process, Scheduler,
};
use libcontainer::syscall::syscall::SyscallType;

use crate::error::Error;
use crate::sys::{self, Scheduling};

/// How the kernel schedules the container's processes.
#[derive(Debug)]
pub(super) struct Schedule {
    cpu: Option<Scheduler>,
    io: Option<LinuxIOPriority>,
}

impl Schedule {
    pub(super) fn of(process: &Process) -> Result<Self, Error> {
        Ok(Self { cpu: process.scheduler().clone(), io: *process.io_priority() })
    }

    /// Children inherit it.
    pub(super) fn apply(&self) -> Result<(), Error> {
        if let Some(io) = &self.io {
            let class = match io.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            let done = SyscallType::Linux.create_syscall().set_io_priority(class, io.priority());
            done.map_err(|e| Error::chain("set the I/O priority", &e))?;
        }
        match &self.cpu {
            Some(cpu) => sys::set_scheduling(attributes(cpu)).map_err(|e| Error::io("set the scheduling policy", e)),
            None => Ok(()),
        }
    }
}

/// Numbers of linux/sched.h.
fn attributes(cpu: &Scheduler) -> Scheduling {
    let policy = match cpu.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    Scheduling {
        policy,
        flags: cpu.flags().iter().flatten().map(flag).fold(0, |all, one| all | one),
        nice: cpu.nice().unwrap_or(0),
        priority: cpu.priority().and_then(|p| p.try_into().ok()).unwrap_or(0),
        runtime: cpu.runtime().unwrap_or(0),
        deadline: cpu.deadline().unwrap_or(0),
        period: cpu.period().unwrap_or(0),
        ..Default::default()
    }
}

/// personality(2) of the calling process.
pub(super) fn set_personality(personality: &LinuxPersonality) -> Result<(), Error> {
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(Error::host("flags of a personality are not supported"));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => PersonalityDomain::Linux,
        LinuxPersonalityDomain::PerLinux32 => PersonalityDomain::Linux32,
    };
    let done = SyscallType::Linux.create_syscall().personality(domain);
    done.map_err(|e| Error::chain("set the personality", &e))
}
