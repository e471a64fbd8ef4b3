//! The child: enters the container step by step, gives up what the command must not have, and executes it.
//!
//! It runs in the helper's memory while the helper rests, so it may allocate, and what it changes there the helper finds
//! changed. It never unwinds or returns: it executes or exits.
//! The order of the steps matters; each says why where it is not plain. Signals are as the command must find them:
//! the helper is started with default dispositions and an empty mask, and changes neither.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cricket_process::caps::{self, Set};
use cricket_process::namespaces::Kinds;
use cricket_process::{attr, identity, keyring, rlimits, seccomp};
use cricket_wire::exec_config::CommandConfig;
use cricket_wire::helper::Report;
use cricket_wire::packet;
use prost::Message;
use rustix::fs::{FileType, Mode, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{chdir, chroot, fchdir, getcwd, setsid, umask};

use crate::cgroup::Groups;
use crate::descriptor;
use crate::failure::{Doing, Failure};
use crate::lookup::Command;
use crate::target::Target;
use crate::terminal;

/// Where the channel is once everything else is closed.
const CHANNEL: i32 = 3;
/// Where the file for the first label is then: AppArmor's where there is one, else SELinux's.
const LABEL: i32 = 4;
/// Copies from here on are in the way of none of them.
const ELSEWHERE: i32 = 16;

/// Everything a child needs, made by the helper.
pub(crate) struct Child<'h> {
    pub(crate) config: &'h CommandConfig,
    pub(crate) target: &'h Target,
    pub(crate) capabilities: Set,
    pub(crate) ambient: Set,
    pub(crate) program: Option<(seccomp::Program, u32)>,
    pub(crate) command: &'h Command,
}

impl Child<'_> {
    /// Executes the command, or tells the channel why not and exits.
    pub(crate) fn run(&self, groups: &Groups, channel: BorrowedFd<'_>) -> Infallible {
        let failure = match self.enter(groups, channel) {
            Ok(channel) => (self.drop_and_execute(), channel),
            Err(failure) => (failure, channel),
        };
        fail(failure.0, failure.1)
    }

    /// Joins everything; what is closed or given away comes later. Returns the channel, which has moved.
    fn enter(&self, groups: &Groups, channel: BorrowedFd<'_>) -> Result<BorrowedFd<'static>, Failure> {
        let config = self.config;
        // First, so that all that follows is counted to the container.
        groups.join()?;
        for limit in &config.rlimits {
            rlimits::set(&limit.name, rlimits::Limits { soft: limit.soft, hard: limit.hard })?;
        }
        // As the host's root, whose quota of keys is the largest.
        keyring::new_session(config.selinux_label.as_deref())?;
        setsid().doing("start a session")?;
        if config.terminal.is_none() {
            self.own_pipes()?;
        }
        // The files of `/proc` that are needed later: inside, `/proc` is whatever the container made of it.
        let apparmor = config.apparmor_profile.as_ref().map(|_| attr::open_apparmor()).transpose()?;
        let selinux = config.selinux_label.as_ref().map(|_| attr::open("exec")).transpose()?;

        let namespaces = self.target.namespaces.without(Kinds::PID);
        if !namespaces.is_empty() {
            self.target.pidfd.join_namespaces(namespaces)?;
        }
        if namespaces.contains(Kinds::USER) {
            // Until now it is the host's root still, which is nobody in there.
            identity::change(0, 0, &[])?;
        }
        fchdir(&self.target.root).doing("enter the container's root")?;
        chroot(".").doing("enter the container's root")?;
        if let Some(size) = config.terminal {
            let master = terminal::make(size, config.uid)?;
            let report = Report { pid: 0, error: None, terminal: true };
            packet::send(channel, &report, &[master.as_fd()])
                .map_err(|error| Failure::host(format!("hand the terminal over: {error}")))?;
        }
        umask(Mode::from_raw_mode(0o022));

        // Really closed before any path of the container is followed, as it may lead through `/proc/self/fd`
        // (CVE-2024-21626): the host's directories are among these.
        // Copied out of each other's way first.
        let copy = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(&fd, ELSEWHERE).map(|copy| [fd, copy]);
        let files = [apparmor, selinux].into_iter().flatten().map(copy).collect::<Result<Vec<_>, _>>();
        let files = files.doing("keep a descriptor")?;
        let channel = descriptor::place(channel, CHANNEL, true)?;
        let mut last = CHANNEL;
        for [_, file] in &files {
            last += 1;
            descriptor::place(file.as_fd(), last, true)?;
        }
        std::mem::forget(files);
        descriptor::close_from(last + 1)?;
        Ok(channel)
    }

    /// Pipes belong to the user of the command, who may open `/dev/stdout`.
    fn own_pipes(&self) -> Result<(), Failure> {
        let Some(owner) = self.target.host_user(self.config.uid).filter(|owner| *owner != 0) else { return Ok(()) };
        for number in 0..3 {
            let pipe = descriptor::borrow(number)?;
            let stat = fstat(pipe).doing("look at stdio")?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
                fchown(pipe, Some(Uid::from_raw(owner)), None).doing("give stdio to the user")?;
            }
        }
        Ok(())
    }

    /// Gives up rights, from the outer to the inner, and executes.
    fn drop_and_execute(&self) -> Failure {
        match self.drop_rights() {
            Ok(()) => self.command.execute(),
            Err(failure) => failure,
        }
    }

    fn drop_rights(&self) -> Result<(), Failure> {
        let config = self.config;
        // As root, for directories that the user may not see the path of; as the user, for those root may not (NFS).
        let entered = enter_directory(&config.cwd, chdir(&*config.cwd), true)?;
        caps::limit_bounding(self.capabilities)?;
        identity::change(config.uid, config.gid, &config.groups)?;
        // A filter is loaded as late as possible, since it judges every call that follows; without no_new_privs that
        // takes a capability, which goes last then.
        let filter_needs = match (&self.program, config.no_new_privileges) {
            (Some(_), false) => Set::from_names(["CAP_SYS_ADMIN"]).0,
            _ => Set::EMPTY,
        };
        caps::set(self.capabilities.union(filter_needs), self.ambient)?;
        if !entered {
            enter_directory(&config.cwd, chdir(&*config.cwd), false)?;
        }
        let here = getcwd(Vec::new()).doing("ask for the working directory")?;
        if !here.as_bytes().starts_with(b"/") {
            return Err(Failure::content(format!(
                "the working directory {:?} is outside of the container",
                config.cwd
            )));
        }
        if config.no_new_privileges {
            rustix::thread::set_no_new_privs(true).doing("set no_new_privs")?;
        }
        if let Some(profile) = &config.apparmor_profile {
            rustix::io::write(descriptor::borrow(LABEL)?, format!("exec {profile}").as_bytes())
                .doing(&format!("enter the AppArmor profile {profile:?}"))?;
        }
        if let Some(label) = &config.selinux_label {
            let number = LABEL + i32::from(config.apparmor_profile.is_some());
            rustix::io::write(descriptor::borrow(number)?, label.as_bytes())
                .doing(&format!("take the SELinux label {label:?}"))?;
        }
        if let Some((program, flags)) = &self.program {
            program.load(*flags)?;
        }
        if !filter_needs.is_empty() {
            caps::reduce(self.capabilities, self.ambient)?;
        }
        Ok(())
    }
}

/// Whether the working directory was entered; `later` if it may be tried once more.
fn enter_directory(path: &str, result: Result<(), Errno>, later: bool) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS) if later => Ok(false),
        Err(error) => {
            let error = std::io::Error::from(error);
            Err(Failure::content(format!("enter the working directory {path:?}: {error}")))
        }
    }
}

/// Tells the helper and exits; nothing is dropped, since descriptors may be closed already.
pub(crate) fn fail(failure: Failure, channel: BorrowedFd<'_>) -> ! {
    let code = failure.exit_code();
    let report = Report { pid: 0, error: Some(failure.into_wire()), terminal: false };
    // By write(2), which every filter allows.
    let _ = rustix::io::write(channel, &report.encode_to_vec());
    // SAFETY: ends the process; there is nothing to flush.
    unsafe { libc::_exit(code) }
}
