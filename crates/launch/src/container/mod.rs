//! A container of this kernel's namespaces.
//!
//! ```text
//! monitor ─starts─▶ helper: plan ─ device rules ─ clone ───────── hear ─ report PID ─ go ── hear ── poststart ─ exit
//!    ▲                                             │ CLONE_PARENT   ▲                 │      ▲
//!    │                                             ▼                └─── channel ─────┼──────┘ closed by execve
//!    └───────────── exit status ──────────────── init: see [`init`] ◀─────────────────┘
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`plan`] | everything opened and checked on the host: [`spaces`], [`groups`], [`mounts`], [`hide`], [`dev`], [`process`] |
//! | [`init`] | the order of the steps in the container: [`fill`], [`pty`], [`hooks`], [`cwd`], [`lsm`], [`privileges`] |
//! | [`channel`] | what the two say to each other |
//!
//! libcontainer gives the types of the specification, the hooks, scheduling and personality. The rest is not its own:
//! it mounts by path, compiles the seccomp profile in every init, knows no id-mapped mounts and one propagation,
//! and waits for RCU when it joins cgroups.
//!
//! Whatever fails, nothing is left: mounts are only made in the init's namespace and end with it, and the helper ends
//! only after an init that it gives up has.

mod channel;
mod command;
mod cwd;
mod dev;
mod devices;
mod fill;
mod groups;
mod hide;
mod hooks;
mod init;
mod inside;
mod lsm;
mod mounts;
mod options;
mod plan;
mod privileges;
mod process;
mod pty;
mod schedule;
mod spaces;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use cricket_process::Pidfd;
use cricket_wire::launch_config::YoukiConfig;
use libcontainer::oci_spec::runtime::Spec;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::error::Error;
use crate::report::Reporter;
use crate::sys::Side;
use channel::{Step, Word};
use groups::Cloned;
use hooks::{Hooks, When};
use init::Init;
use plan::Plan;

/// SIGKILL.
const KILL: i32 = 9;
/// How long a killed init may take to end; one that takes longer is in an uninterruptible sleep.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn run(config: &YoukiConfig, reporter: &mut Reporter) -> Result<(), Error> {
    check_id(&config.id)?;
    let spec = load_spec(&config.bundle)?;
    let plan = Plan::make(&spec, config)?;
    let linux = spec.linux().as_ref();
    let rules = linux.and_then(|l| l.resources().as_ref()).and_then(|r| r.devices().as_deref()).unwrap_or_default();
    devices::restrict(&config.cgroup, rules)?;
    let (ours, theirs) = channel::pair()?;
    hide()?;
    let made = plan.spaces.with_pid(|| {
        let Cloned { side, outside } = plan.groups.clone(plan.spaces.makes_pid() && plan.spaces.user.is_none())?;
        match side {
            Side::Child => {
                drop(ours);
                Init { plan: &plan, outside }.run(theirs)
            }
            Side::Parent { pid, pidfd } => Ok((pid, pidfd, ours, theirs)),
        }
    });
    let (pid, pidfd, channel, theirs) = made?;
    let mut made = Made { pidfds: vec![pidfd], pid: (!plan.clones_twice()).then_some(pid), channel };
    // The init has its own copy of everything; what this one closes now it does not close when the command waits for it.
    drop(theirs);
    let hooks = plan.close();
    let started = made.start(&hooks, reporter);
    if started.is_err() {
        made.give_up();
    }
    started
}

/// Makes this process not dumpable, and so what is cloned of it, up to its execve: in a pod with users of its own and a
/// shared PID namespace the pod's root sees the init, and from the user namespace on it may trace whatever is dumpable
/// (`__ptrace_may_access` in kernel/ptrace.c), while the init's root and descriptors are still the host's. Not before the
/// plan: the kernel wants `CAP_SYS_PTRACE` to open a namespace of such a process, also of the one that makes the user
/// namespace. Its own files of `/proc` stay the root's, and open to it.
fn hide() -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| Error::io("hide from ptrace", e))
}

/// What was cloned.
struct Made {
    /// Every process, the init last.
    pidfds: Vec<OwnedFd>,
    /// The init's, once it is known.
    pid: Option<i32>,
    channel: OwnedFd,
}

impl Made {
    /// Up to the command's execve.
    fn start(&mut self, hooks: &Hooks, reporter: &mut Reporter) -> Result<(), Error> {
        let mut terminal = None;
        let mut ready = false;
        while !ready || self.pid.is_none() {
            let Some((word, fd)) = channel::hear(&self.channel)? else {
                return Err(Error::host("the container's init was killed before it was ready"));
            };
            match word.step() {
                Step::Failed => return Err(failure(word)),
                Step::Cloned => self.cloned(&word, fd),
                Step::Mounted => self.run_hooks(hooks)?,
                Step::Ready => (ready, terminal) = (true, fd),
            }
        }
        let pid = self.pid.unwrap_or_default();
        reporter.made(pid, terminal)?;
        channel::go(&self.channel)?;
        // An init that is killed now looks like one that executes: its exit status, which its parent gets, tells.
        if let Some((word, _)) = channel::hear(&self.channel)? {
            return Err(failure(word));
        }
        hooks.run(&hooks.poststart, "poststart", When::Running, pid)
    }

    fn cloned(&mut self, word: &Word, pidfd: Option<OwnedFd>) {
        self.pidfds.extend(pidfd);
        self.pid = Some(word.pid);
    }

    /// Everything is mounted. The init waits; who cloned it may not have said so yet.
    fn run_hooks(&mut self, hooks: &Hooks) -> Result<(), Error> {
        while self.pid.is_none() {
            match channel::hear(&self.channel)? {
                Some((word, fd)) if word.step() == Step::Cloned => self.cloned(&word, fd),
                Some((word, _)) => return Err(failure(word)),
                None => return Err(Error::host("the container's init was killed before it was ready")),
            }
        }
        hooks.run(&hooks.runtime, "createRuntime", When::Creating, self.pid.unwrap_or_default())?;
        channel::go(&self.channel)
    }

    /// Ends what was cloned, and waits until it has ended.
    fn give_up(self) {
        // What has ended already, or was reaped, is what is wanted.
        let pidfds: Vec<_> = self.pidfds.into_iter().filter_map(|fd| Pidfd::from_fd(fd).ok()).collect();
        for pidfd in &pidfds {
            let _ = pidfd.send_signal(KILL);
        }
        for pidfd in &pidfds {
            let _ = pidfd.wait(Some(KILL_TIMEOUT));
        }
    }
}

impl Plan {
    /// Closes all that only the init needs.
    fn close(self) -> Hooks {
        self.hooks
    }

    /// A user namespace's PID namespace has to be made by a process that is in the user namespace.
    fn clones_twice(&self) -> bool {
        self.spaces.user.is_some() && self.spaces.makes_pid()
    }
}

fn failure(word: Word) -> Error {
    word.failure.map_or_else(|| Error::host("the container's init does not keep to its order"), Error::from)
}

/// The ID becomes part of what hooks are told.
fn check_id(id: &str) -> Result<(), Error> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"_-+.".contains(&b);
    if id.is_empty() || id.len() > 128 || id == "." || id == ".." || !id.bytes().all(ok) {
        return Err(Error::host(format!("invalid container id {id:?}")));
    }
    Ok(())
}

/// Reads a bundle's specification.
pub(crate) fn load_spec(bundle: &Path) -> Result<Spec, Error> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
    serde_json::from_slice(&text).map_err(|e| Error::host(format!("parse {}: {e}", path.display())))
}
