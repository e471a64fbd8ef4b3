//! The container's init, from its clone to the command. It has one thread and a copy of the helper's memory; it never
//! unwinds or returns.
//!
//! ```text
//! host's rights:      cgroups ─ limits, score, keyring, stdio ─ join namespaces (the user namespace last)
//!                        └ with a user namespace and a new PID namespace: clone once more, so that that one owns this one
//! container's root:   session ─ new namespaces ─ names, parameters ─ root, mounts, devices, terminal
//!                        ─ [hooks] ─ masks ─ pivot ─ working directory ─ read-only root
//! the user:           close all descriptors ─ user, groups ─ find the command ─ (go) ─ [hooks]
//!                        ─ labels, capabilities, seccomp ─ execve
//! ```

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cricket_process::detached::{Change, Flags};
use cricket_process::namespaces::{set_domainname, set_hostname};
use cricket_process::sysctl;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{fchdir, pivot_root, setsid};

use super::channel::{self, Step};
use super::hooks::When;
use super::lsm::Labels;
use super::plan::Plan;
use super::{dev, fill, pty};
use crate::error::Error;
use crate::sys::{self, Clone, Side};

/// Everything the init works with.
pub(super) struct Init<'p> {
    pub(super) plan: &'p Plan,
    /// It was not cloned into its unified cgroup.
    pub(super) outside: bool,
}

impl Init<'_> {
    /// Becomes the command, or says why not and exits.
    pub(super) fn run(&self, channel: OwnedFd) -> ! {
        let (channel, error) = match self.enter(channel.as_fd()).and_then(|()| self.build(channel.as_fd())) {
            Ok(built) => built.finish(self.plan, channel),
            Err(error) => (channel, error),
        };
        channel::tell(channel.as_fd(), error);
        sys::exit(1)
    }

    /// Everything that takes the host's rights.
    fn enter(&self, channel: BorrowedFd<'_>) -> Result<(), Error> {
        let Plan { groups, process, spaces, .. } = self.plan;
        groups.join(self.outside)?;
        process.prepare(spaces.user.as_ref())?;
        spaces.join()?;
        if spaces.user.is_none() || !spaces.makes_pid() {
            return Ok(());
        }
        let again = Clone { new_pid_namespace: true, cgroup: None };
        match again.run().map_err(|e| Error::io("clone the container's init", e))? {
            Side::Child => Ok(()),
            Side::Parent { pid, pidfd } => {
                let said = channel::say(channel, Step::Cloned, pid, Some(pidfd.as_fd()));
                sys::exit(said.is_err().into())
            }
        }
    }

    /// Everything that the container's root does in its namespaces.
    fn build(&self, channel: BorrowedFd<'_>) -> Result<Built, Error> {
        let plan = self.plan;
        setsid().map_err(|e| Error::io("start a session", e))?;
        let labels = Labels::open(plan.process.apparmor.as_deref(), plan.process.selinux.as_deref())?;
        // Where `/proc` is the host's, so is the number.
        let pid = own_host_pid()?;
        plan.spaces.make()?;
        self.name()?;
        rustix::process::umask(Mode::empty());
        fill::attach_root(&plan.root, &plan.rootfs)?;
        let root = plan.root.as_fd();
        fill::make(root, &plan.mounts)?;
        if let Some(nodes) = &plan.nodes {
            dev::populate(root, nodes)?;
        }
        let terminal = match &plan.terminal {
            Some(size) => Some(pty::make(root, *size, plan.process.uid(), plan.nodes.is_some())?),
            None => None,
        };
        if plan.hooks.before_pivot() {
            channel::say(channel, Step::Mounted, 0, None)?;
            channel::wait(channel)?;
            plan.hooks.run(&plan.hooks.container, "createContainer", When::Creating, pid)?;
        }
        plan.hidden.apply(root)?;
        change_root(root)?;
        let kind = plan.final_propagation;
        Change { propagation: kind, ..Default::default() }.apply(root, false).map_err(|e| Error::host(e.to_line()))?;
        let entered = plan.process.enter_cwd()?;
        if plan.read_only {
            let change = Change { set: Flags::READ_ONLY, ..Default::default() };
            change.apply(root, false).map_err(|e| Error::host(format!("make the root read-only: {}", e.to_line())))?;
        }
        Ok(Built { labels, terminal, entered, pid })
    }

    /// Host name, domain name and kernel parameters. Which of these are the container's own was checked before.
    fn name(&self) -> Result<(), Error> {
        let failed = |e: cricket_process::Error| Error::host(e.to_line());
        let plan = self.plan;
        plan.hostname.as_deref().map_or(Ok(()), set_hostname).map_err(failed)?;
        plan.domainname.as_deref().map_or(Ok(()), set_domainname).map_err(failed)?;
        plan.sysctls.iter().try_for_each(|(name, value)| sysctl::set(name, value)).map_err(failed)
    }
}

/// A container that only lacks its command.
struct Built {
    labels: Labels,
    terminal: Option<OwnedFd>,
    entered: bool,
    pid: i32,
}

impl Built {
    /// Returns only with an error, and where to tell it.
    fn finish(self, plan: &Plan, channel: OwnedFd) -> (OwnedFd, Error) {
        let Labels { apparmor, selinux } = self.labels;
        // Really closed before any path of the container is followed, as it may lead through `/proc/self/fd`
        // (CVE-2024-21626): the host's directories are among these.
        let Ok([Some(channel), apparmor, selinux, terminal]) =
            sys::keep_only([Some(channel), apparmor, selinux, self.terminal])
        else {
            // There is nothing left to tell it by; the helper sees that the channel ends.
            sys::exit(1)
        };
        let labels = Labels { apparmor, selinux };
        let Err(error) = become_command(plan, &labels, terminal, self.entered, self.pid, channel.as_fd());
        (channel, error)
    }
}

fn become_command(
    plan: &Plan,
    labels: &Labels,
    terminal: Option<OwnedFd>,
    entered: bool,
    pid: i32,
    channel: BorrowedFd<'_>,
) -> Result<Infallible, Error> {
    let found = plan.process.become_user(entered)?;
    channel::say(channel, Step::Ready, 0, terminal.as_ref().map(AsFd::as_fd))?;
    drop(terminal);
    channel::wait(channel)?;
    plan.hooks.run(&plan.hooks.start, "startContainer", When::Created, pid)?;
    plan.process.execute(&found, labels)
}

fn own_host_pid() -> Result<i32, Error> {
    let link = std::fs::read_link("/proc/self").map_err(|e| Error::io("read /proc/self", e))?;
    link.to_str().and_then(|pid| pid.parse().ok()).ok_or_else(|| Error::host("/proc/self is no PID"))
}

/// Makes the container's root this process's, and lets go of the host's.
fn change_root(root: BorrowedFd<'_>) -> Result<(), Error> {
    let failed = |what: &'static str| move |e: rustix::io::Errno| Error::io(what, e);
    fchdir(root).map_err(failed("enter the root file system"))?;
    // The old root ends up on top of the new one, where it is taken away (pivot_root(2)).
    pivot_root(".", ".").map_err(failed("change the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("unmount the host's root"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(Path::new("/"), flags, Mode::empty()).map_err(failed("open the root"))?;
    fchdir(&top).map_err(failed("enter the root"))
}
