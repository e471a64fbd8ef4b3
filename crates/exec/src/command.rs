//! Executes a command in a running container: the helper's side.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use cricket_process::caps::{self, Set};
use cricket_process::namespaces::Kinds;
use cricket_process::{oom, seccomp};
use cricket_wire::exec_config::{CommandConfig, SeccompConfig};
use cricket_wire::helper::{MAX_REPORT, Report};
use cricket_wire::packet::{self, PacketError};
use rustix::fs::fstat;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::cgroup::{Groups, own_group_of};
use crate::child::Child;
use crate::failure::{Doing, Failure};
use crate::lookup::Command;
use crate::target::Target;
use crate::{Made, descriptor};

/// Largest seccomp program in bytes: what the kernel takes.
const MAX_PROGRAM: usize = 4096 * 8;

/// Starts the command and waits until it executes.
pub(crate) fn execute(config: &CommandConfig) -> Result<Made, Failure> {
    let target = Target::open(config.target_fd, config.namespaces.map(Kinds::from_bits))?;
    // The kernel's answers to joining something that ends meanwhile are many, and none of them means it alone.
    start(config, &target).map_err(|failure| match failure.is_host() && !target.pidfd.is_alive().unwrap_or(true) {
        true => Failure::gone(),
        false => failure,
    })
}

fn start(config: &CommandConfig, target: &Target) -> Result<Made, Failure> {
    let command = Command::new(&config.args, &config.env)?;
    let groups = Groups::open(&config.cgroup)?;
    let capabilities = capabilities(config, target)?;
    let ambient = named(&config.ambient)?.intersection(capabilities);
    let program = config.seccomp.as_ref().map(read_program).transpose()?;
    // The child inherits the score; its own file could not be found any more from inside. Never the helper's own, which
    // is the monitor's: what runs in a container is not spared before all else.
    set_oom_score(config.oom_score_adj.map_or_else(|| target.oom_score_adj(), Ok)?)?;
    let (ours, theirs) = channel()?;
    // Before the clone, because only children enter a PID namespace.
    if target.namespaces.contains(Kinds::PID) {
        target.pidfd.join_namespaces(Kinds::PID)?;
    }
    let child = Child { config, target, capabilities, ambient, program, command: &command };
    let run = || child.run(&groups, theirs.as_fd());
    let pid = groups.clone(false, || own_group_of(&target.cgroups()?), |clone| clone.run_sharing(&run))?;
    drop(theirs);
    let terminal = outcome(&ours)?;
    Ok(Made { pid, terminal })
}

/// What the command gets: no more than the container's init, and no more than there is to give.
fn capabilities(config: &CommandConfig, target: &Target) -> Result<Set, Failure> {
    let wanted = named(&config.capabilities)?.intersection(target.bounding);
    // In a user namespace of its own the child starts with all of them.
    Ok(if target.namespaces.contains(Kinds::USER) { wanted } else { caps::clamp(wanted)?.0 })
}

fn named(names: &[String]) -> Result<Set, Failure> {
    let (set, unknown) = Set::from_names(names);
    match unknown.first() {
        Some(name) => Err(Failure::host(format!("unknown capability {name:?}"))),
        None => Ok(set),
    }
}

fn read_program(config: &SeccompConfig) -> Result<(seccomp::Program, u32), Failure> {
    let file = File::from(descriptor::borrow(config.program_fd)?.try_clone_to_owned().doing("use a seccomp program")?);
    let size = fstat(&file).doing("read the seccomp program")?.st_size;
    let size = usize::try_from(size).ok().filter(|size| *size <= MAX_PROGRAM);
    let mut bytes = vec![0; size.ok_or_else(|| Failure::host("the seccomp program is too large"))?];
    // The offset of the descriptor is shared with others who read the same program.
    file.read_exact_at(&mut bytes, 0).doing("read the seccomp program")?;
    Ok((seccomp::Program::from_bytes(bytes)?, config.flags))
}

/// Sets this process's own score, which its child inherits.
pub(crate) fn set_oom_score(score: i32) -> Result<(), Failure> {
    let mut file =
        File::options().read(true).write(true).open("/proc/self/oom_score_adj").doing("set oom_score_adj")?;
    oom::set(&mut file, score)?;
    Ok(())
}

/// Two ends: the helper's and the child's.
pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd), Failure> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).doing("make a channel")
}

/// Reads what the child says until it executes, which closes the channel.
fn outcome(channel: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    let mut terminal = None;
    loop {
        match packet::receive_sized::<Report>(channel, MAX_REPORT) {
            Ok((Report { error: Some(failure), .. }, _)) => return Err(failure.into()),
            Ok((_, fds)) => terminal = fds.into_iter().next(),
            Err(PacketError::Closed) => return Ok(terminal),
            Err(error) => return Err(Failure::host(format!("hear from the child: {error}"))),
        }
    }
}
